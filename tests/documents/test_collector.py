"""Documents become a table, whatever order they come in and however often."""

import event_model
import numpy as np
import pytest

from bluesky_xpdml.documents import CollectedRun, RunCollector
from bluesky_xpdml.vocabulary import ReasonCode

DESCRIPTOR = {"uid": "d", "run_start": "a", "name": "primary", "data_keys": {"i0": {"units": "nA"}}}
STOP = {"uid": "z", "run_start": "a", "exit_status": "success"}


def event(seq_num, value, *, uid=None, descriptor="d", time=0.0):
    return {
        "uid": uid or f"e{seq_num}",
        "descriptor": descriptor,
        "seq_num": seq_num,
        "time": time,
        "data": {"i0": value},
        "timestamps": {"i0": time},
    }


def collected(*documents):
    collector = RunCollector({"uid": "a", "time": 0.0})
    for name, document in documents:
        collector.feed(name, document)
    return collector.finish()


def test_a_run_of_a_run_engine_is_collected_whole(iron_scan, iron_columns):
    (_, start), *rest = iron_scan()
    collector = RunCollector(start)
    for name, document in rest:
        collector.feed(name, document)
    run = collector.finish()
    stream = run.streams["primary"]
    np.testing.assert_array_equal(stream.column("it"), iron_columns["it"])
    assert stream.unit("energy") == "eV"
    assert "energy" in stream.hints
    assert run.uid == start["uid"]
    assert run.stop["exit_status"] == "success"
    assert run.remarks() == ()


def test_pages_hold_the_same_as_events(iron_scan):
    (_, start), *rest = iron_scan()
    events = [document for name, document in rest if name == "event"]
    page = event_model.pack_event_page(*events)
    by_event, by_page = RunCollector(start), RunCollector(start)
    for name, document in rest:
        by_event.feed(name, document)
        if name != "event":
            by_page.feed(name, document)
    by_page.feed("event_page", page)
    assert by_page.finish().streams == by_event.finish().streams


def test_order_and_repetition_do_not_matter_but_are_counted():
    run = collected(
        ("event", event(2, 2.0)),
        ("event", event(1, 1.0)),
        ("event", event(2, 2.0)),
        ("descriptor", DESCRIPTOR),
        ("descriptor", DESCRIPTOR),
        ("stop", STOP),
        ("stop", STOP),
    )
    assert run.streams["primary"].column("i0").tolist() == [1.0, 2.0]
    assert run.anomalies == {
        "descriptors came twice": 1,
        "events came out of order": 1,
        "events came twice": 1,
        "stop documents came twice": 1,
    }


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_point_measured_again_after_a_pause_replaces_the_first(order):
    twice = [("event", event(1, 1.0, uid="x", time=1.0)), ("event", event(1, 5.0, uid="y", time=2.0))]
    run = collected(("descriptor", DESCRIPTOR), *(twice[i] for i in order), ("stop", STOP))
    assert run.streams["primary"].column("i0").tolist() == [5.0]
    assert list(run.anomalies) == ["points were measured again, the later measurement was taken"]


def test_a_second_descriptor_of_a_stream_continues_it():
    run = collected(
        ("descriptor", DESCRIPTOR),
        ("event", event(1, 1.0)),
        ("descriptor", DESCRIPTOR | {"uid": "d2"}),
        ("event", event(2, 2.0, descriptor="d2")),
        ("stop", STOP),
    )
    assert run.streams["primary"].column("i0").tolist() == [1.0, 2.0]


def test_a_key_missing_in_an_event_is_nan_and_not_zero():
    without = event(2, 0.0) | {"data": {}}
    run = collected(("descriptor", DESCRIPTOR), ("event", event(1, 1.0)), ("event", without), ("stop", STOP))
    np.testing.assert_array_equal(run.streams["primary"].column("i0"), [1.0, np.nan])


@pytest.mark.parametrize(
    ("documents", "remark"),
    [
        ([("event", event(1, 1.0))], "events without their descriptor were left out (1)"),
        ([("event", event("1", 1.0))], "malformed events were left out (1)"),
        ([("event", {"descriptor": "d"})], "malformed events were left out (1)"),
        ([("event", None)], "event documents were not mappings (1)"),
        ([("descriptor", DESCRIPTOR | {"data_keys": {"i0": 3}})], "malformed descriptors were left out (1)"),
        (
            [("event_page", {"descriptor": "d", "seq_num": [1, 2], "data": {"i0": [1.0]}})],
            "event pages with rows of unequal length were left out (1)",
        ),
        (
            [("event_page", {"descriptor": "d", "seq_num": 1, "data": {}})],
            "malformed event pages were left out (1)",
        ),
        (
            [("stop", STOP | {"num_events": {"primary": 3}})],
            "events that the stop document counts did not come (3)",
        ),
        ([("start", {"uid": "a"})], "start documents came twice (1)"),
    ],
)
def test_malformed_documents_are_left_out_and_named(documents, remark):
    assert remark in collected(*documents).remarks()


def test_a_missing_stop_is_remarked_unless_the_run_was_given_up():
    collector = RunCollector({"uid": "a"})
    assert collector.finish().remarks() == ("no stop document came (1)",)
    assert collector.finish(given_up="queue full").remarks() == ()


def test_arrays_are_not_kept_but_arrays_of_one_are_unwrapped():
    data = {
        "mca": [1.0, 2.0],
        "image": np.zeros((4, 4)),
        "one": [[3.0]],
        "zero_d": np.array(4.0),
        "odd": [[1], [2, 3]],
    }
    run = collected(("descriptor", DESCRIPTOR), ("event", event(1, 1.0) | {"data": data}), ("stop", STOP))
    assert run.streams["primary"].columns == {"one": (3.0,), "zero_d": (4.0,)}


def test_thousands_of_different_anomalies_are_counted_not_listed():
    run = CollectedRun(
        uid="a", start={}, anomalies={f"file {number} was not found": 1 for number in range(5000)}
    )
    remarks = run.remarks()
    assert len(remarks) == 101
    assert remarks[0] == "file 0 was not found (1)"
    assert remarks[-1] == "4900 more remarks on documents and files were left out"


def test_anomalies_have_codes():
    run = collected(("descriptor", None), ("event", event(1, 1.0)), ("event", event(1, 1.0)))
    assert {str(remark): remark.code for remark in run.remarks()} == {
        "descriptor documents were not mappings (1)": ReasonCode.INVALID_DOCUMENT,
        "events came twice (1)": ReasonCode.DOCUMENTS_LOST,
        "events without their descriptor were left out (1)": ReasonCode.DOCUMENTS_LOST,
        "no stop document came (1)": ReasonCode.NO_STOP,
    }
