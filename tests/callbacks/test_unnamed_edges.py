"""Runs that name no element are answered as what they show; other edges than K are reduced, not answered."""

import pytest

START = {"plan_name": "xafs", "sample": {"name": "unknown powder"}}
EDGE = 7124.0
"""Where the iron spectrum of the fixture has its edge [eV]."""


@pytest.fixture
def answer(callback, derived, powder, iron_columns):
    """Return a function that sends a run whose edge lies elsewhere and returns its derived run."""

    def send(place, channels=("i0", "it"), **start):
        columns = {name: iron_columns[name] for name in ("energy", *channels)}
        columns["energy"] = columns["energy"] + place - EDGE
        rows = zip(*columns.values(), strict=True)
        events = [dict(zip(columns, map(float, row), strict=True)) for row in rows]
        documents = powder.run({"primary": events}, **(START | start))
        documents[1][1]["data_keys"]["energy"]["units"] = "eV"
        for name, document in documents:
            callback(name, document)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
        names = [document["name"] for name, document in derived.documents if name == "descriptor"]
        return derived.starts[-1], names

    return send


@pytest.mark.parametrize("start", [{}, {"edge": "K"}, {"element": "Fe"}], ids=str)
def test_the_element_is_found_from_the_edge_and_said(answer, start):
    said, streams = answer(EDGE, ("i0", "it", "ir"), **start)
    assert (said["element"], said["edge"]) == ("Fe", "K")
    assert said["quality"]["verdict"] == "good"
    assert any("found from" in reason for reason in said["quality"]["reasons"])
    assert said["analysis"]["settings"]["energy_axis"]["source"] == "reference"
    assert streams == ["xanes", "predictions"]


def test_an_edge_of_two_elements_is_refused_with_both(answer):
    said, streams = answer(8351.0)
    assert (said["element"], said["quality"]["verdict"]) == ("", "failed")
    assert "may be Ni K or Er L3; name the element" in said["quality"]["reasons"][0]
    assert said["descriptors"] == {}
    assert streams == ["xanes"]


def test_the_same_edge_is_answered_once_it_is_named(answer):
    said, streams = answer(8348.0, element="Ni", edge="K")
    assert "oxidation_state" in said["descriptors"]
    assert streams == ["xanes", "predictions"]


@pytest.mark.parametrize(
    ("place", "start"), [(11566.0, {"element": "Pt", "edge": "L3"}), (6217.0, {})], ids=["Pt L3", "Nd L3"]
)
def test_other_edges_are_published_with_spectrum_and_reason(answer, place, start):
    said, streams = answer(place, **start)
    assert said["edge"] == "L3"
    assert said["element"] == start.get("element", "Nd")
    assert said["quality"]["verdict"] == "failed"
    assert said["quality"]["reasons"][0].startswith(f"no xanes model for the L3 edge of {said['element']}")
    assert said["descriptors"] == {}
    assert streams == ["xanes"]
    assert said["analysis"]["settings"]["reduction"]["e0"] == pytest.approx(place, abs=3.0)


def test_an_edge_that_nobody_has_is_refused(answer):
    said, _ = answer(4000.0 + 3200.0)
    assert said["quality"]["verdict"] == "failed"
    assert "expected the element and the edge of the scan, found none" in said["quality"]["reasons"][0]
