"""Start documents state technique, detection mode and origin in the words of many beamlines."""

import pytest

from bluesky_xpdml.documents import load_profile, origin_of
from bluesky_xpdml.documents.scattering import scattering_sample
from bluesky_xpdml.documents.start import (
    claims_absorption,
    claims_scattering,
    declared_mode,
    elements_of,
    planned_edge_energy,
    sample_of,
)
from bluesky_xpdml.records import DetectionMode, Sample

GENERIC = load_profile("generic")


@pytest.mark.parametrize(
    ("start", "proposal"),
    [
        ({"proposal": {"proposal_id": "312345", "title": "Nickelates"}}, "312345"),
        ({"proposal_id": 7}, "7"),
        ({"XDI": {"Facility": {"GUP": 98765}}}, "98765"),
        ({"data_session": "pass-312345"}, "pass-312345"),
        ({"proposal": {"title": "without a number"}}, ""),
        ({}, ""),
    ],
)
def test_the_proposal_is_found_under_the_names_that_beamlines_use(
    start: dict[str, object], proposal: str
) -> None:
    assert origin_of(start).proposal == proposal


def test_only_the_named_entries_are_carried_on() -> None:
    start = {"cell": {"channel": 4}, "operator": "someone", "position": [1.0, 2.0]}
    assert origin_of(start, carry=("cell.channel", "position", "missing")).keys == {"cell.channel": "4"}


def test_a_malformed_trial_or_time_is_left_out() -> None:
    origin = origin_of({"time": True, "xpdml_trial": "three"})
    assert origin.time is None
    assert origin.trial == {}


@pytest.mark.parametrize(
    ("start", "claims"),
    [
        ({"plan_name": "scan_nd xafs transmission"}, True),
        ({"technique": "XANES"}, True),
        ({"plan_name": "scan", "technique": "xas"}, True),
        ({"element": "Fe", "edge": "K"}, True),
        ({"XDI": {"Element": {"symbol": "Fe", "edge": "K"}}}, True),
        ({"element": "Fe"}, False),
        ({"plan_name": "count"}, False),
        ({"plan_name": 7, "technique": None}, False),
    ],
)
def test_runs_that_state_to_be_absorption(start, claims):
    assert claims_absorption(start, GENERIC) is claims


@pytest.mark.parametrize(
    ("start", "mode"),
    [
        ({"plan_name": "scan_nd xafs reference"}, DetectionMode.REFERENCE),
        ({"mode": "Fluorescence", "plan_name": "xafs transmission"}, DetectionMode.FLUORESCENCE),
        ({"XDI": {"_mode": ["transmission"]}}, DetectionMode.TRANSMISSION),
        ({"mode": "transmission + fluorescence"}, None),
        ({"plan_name": "xafs"}, None),
    ],
)
def test_declared_mode(start, mode):
    assert declared_mode(start, GENERIC) is mode


@pytest.mark.parametrize(
    ("start", "claims"),
    [
        ({"technique": "total scattering"}, True),
        ({"plan_name": "pdf_count"}, True),
        ({"experiment": "diffraction"}, True),
        ({"poni_file": "a.poni"}, True),
        ({"plan_name": "xafs"}, False),
        ({"plan_name": "pdfetch_updates"}, False),
    ],
)
def test_runs_that_state_to_be_total_scattering(start, claims):
    assert claims_scattering(start, GENERIC) is claims


@pytest.mark.parametrize(
    ("start", "energy"),
    [
        ({"e0": "7112"}, 7112.0),
        ({"e0": "none", "edge_energy": 7112}, 7112.0),
        ({"e0": True}, None),
        ({"e0": float("nan")}, None),
        ({"e0": -1.0}, None),
        ({"e0": "9" * 400}, None),
        ({}, None),
    ],
)
def test_the_planned_edge_energy_may_be_a_number_or_a_text(start, energy):
    assert planned_edge_energy(start, GENERIC) == energy


@pytest.mark.parametrize(
    ("start", "elements"),
    [
        ({"element": ["Mn", "Fe"]}, ("Mn", "Fe")),
        ({"element": "Mn, Fe"}, ("Mn", "Fe")),
        ({"element": ["Fe"]}, ("Fe",)),
        ({"XDI": {"Element": {"symbol": "Fe"}}}, ("Fe",)),
        ({"element": 26.5}, ()),
        ({}, ()),
    ],
)
def test_elements_are_listed_in_the_order_of_the_start_document(start, elements):
    assert elements_of(start, GENERIC) == elements


def test_a_composition_as_a_mapping_becomes_a_formula():
    start = {"sample_composition": {"Ti": 1, "O": 2}, "sample_name": "anatase"}
    assert scattering_sample(start, load_profile("xpd")) == Sample(name="anatase", composition="Ti O2")
    assert sample_of({"sample": {"name": "LFP-3", "id": 7}}, GENERIC) == Sample(name="LFP-3", uid="7")
