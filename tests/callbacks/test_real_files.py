"""Measured spectra, told as runs, take the way of a live run and come out as they do without it."""

from bluesky_xpdml import CallbackPublisher, XanesSettings, XpdmlCallback, XpdmlError, analyse_scan
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.sources.replay import scan_documents


def readable(folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in {".xdi", ".dat", ".xmu"}:
            try:
                yield read_scan(path)
            except XpdmlError:
                continue


def values(descriptors):
    return {
        name: (descriptor["value"], descriptor["low"], descriptor["high"]) for name, descriptor in descriptors
    }


def test_a_replayed_file_gives_bit_identical_descriptors(shared_data, store, derived):
    expected = {}
    with XpdmlCallback(CallbackPublisher(derived), store=store) as callback:
        for scan in readable(shared_data / "experiment" / "xanes" / "xasdatalibrary"):
            documents = list(scan_documents(scan))
            prediction = analyse_scan(scan, store=store, settings=XanesSettings())
            expected[documents[0][1]["uid"]] = {
                name: (one.value, one.low, one.high) for name, one in prediction.descriptors.items()
            }
            for name, document in documents:
                callback(name, document)
        assert callback.drain(timeout=120)
        statistics = callback.statistics
    found = {start["raw_uid"]: values(start["descriptors"].items()) for start in derived.starts}
    assert found == expected
    assert statistics.predicted > 50
    assert (statistics.errors, statistics.unpublished, statistics.ignored) == (0, 0, 0)
