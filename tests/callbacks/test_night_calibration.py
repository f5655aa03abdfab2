"""A foil that the monochromator saw calibrates the runs after it, within one callback."""

import pytest

from bluesky_xpdml.documents import collector_for, read_run

SI = {"mono": "Si(111)"}


@pytest.fixture
def measured(run_engine, callback, derived, iron_scan):
    """Return a function that measures with the RunEngine and returns the derived run."""

    def measure(channels, **start):
        token = run_engine.subscribe(callback)
        uid = iron_scan(channels, **start)[0][1]["uid"]
        run_engine.unsubscribe(token)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
        return derived.of(uid)

    return measure


def axis(start):
    return start["analysis"]["settings"]["energy_axis"]


def test_a_run_without_a_foil_takes_the_last_one_of_its_monochromator(measured):
    before = measured(("i0", "it"), **SI)
    foil = measured(("i0", "it", "ir"), **SI)
    after = measured(("i0", "it"), **SI)
    other = measured(("i0", "it"), mono="Si(311)")
    assert [axis(start)["source"] for start in (before, foil, after, other)] == [
        "none",
        "reference",
        "stored",
        "none",
    ]
    assert axis(after)["offset"] == axis(foil)["offset"]
    assert axis(after)["uncertainty"] == pytest.approx(axis(foil)["uncertainty"], abs=0.01)
    assert any("calibrated 0.0 h before by the Fe foil" in reason for reason in after["quality"]["reasons"])
    widths = [
        state["high"] - state["low"]
        for state in (start["descriptors"]["oxidation_state"] for start in (foil, after, other))
    ]
    assert widths[0] == pytest.approx(widths[1], rel=0.01)
    assert widths[2] > widths[1]


def test_a_scan_of_the_foil_alone_calibrates_too(measured):
    """As beamlines do it between samples: nothing in the beam, the foil between the last chambers."""
    foil = measured(("i0", "it", "ir"), mode="reference", sample={"name": "Fe foil"}, **SI)
    assert axis(foil)["source"] == "reference"
    assert axis(measured(("i0", "fluorescence"), **SI))["source"] == "stored"


@pytest.mark.parametrize("name", ["iss", "qas"])
def test_a_new_zero_of_the_encoder_makes_another_monochromator(conventions, name):
    def mono(**start):
        write = getattr(conventions, f"{name}_documents")
        documents = write(conventions.Known(), n_samples=2_000, start=start)
        collector = collector_for(documents[0][1], profile=name)
        for kind, document in documents[1:]:
            collector.feed(kind, document)
        return read_run(collector.finish(), name).scans[0].mono

    assert mono() == mono()
    assert mono().startswith(f"that of {name}, zero ")
    assert mono() != mono(angle_offset="0.126")
    assert mono(mono="hhm", angle_offset="0.125") == "hhm, zero 0.125 deg"
