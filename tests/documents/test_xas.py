"""Runs as beamlines emit them become scans; runs of other techniques are told apart; the rest is refused."""

import numpy as np
import pytest
from bluesky.plans import count, scan
from ophyd.sim import det, motor

from bluesky_xpdml.documents import (
    CollectedRun,
    RunCollector,
    RunKind,
    Stream,
    load_profile,
    read_run,
)
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import Sample, Verdict

GENERIC = load_profile("generic")


def collect(documents):
    (_, start), *rest = documents
    collector = RunCollector(start)
    for name, document in rest:
        collector.feed(name, document)
    return collector.finish()


def made_run(columns, *, units=None, start=None, stop=None):
    columns = {name: tuple(values) for name, values in columns.items()}
    keys = {name: ({"units": units[name]} if units and name in units else {}) for name in columns}
    n_events = len(next(iter(columns.values())))
    stream = Stream(name="primary", data_keys=keys, columns=columns, n_events=n_events)
    return CollectedRun(
        uid="a",
        start={"uid": "a", "element": "Fe", "edge": "K", "num_points": n_events} | (start or {}),
        streams={"primary": stream},
        stop={"exit_status": "success"} | (stop or {}),
    )


def first_scan(run, profile="auto"):
    measurement = read_run(run, profile)
    if measurement.error is not None:
        raise measurement.error
    return measurement.scans[0]


ENERGY = np.linspace(7000.0, 7200.0, 41)
ONES = np.ones(41)


@pytest.mark.parametrize("unit", ["eV", "keV"])
@pytest.mark.parametrize("descending", [False, True])
def test_transmission_with_reference(iron_scan, iron_columns, unit, descending):
    documents = iron_scan(unit=unit, descending=descending)
    found = first_scan(collect(documents), GENERIC)
    np.testing.assert_allclose(found.energy, iron_columns["energy"], rtol=1e-12)
    np.testing.assert_array_equal(found.i0, iron_columns["i0"])
    np.testing.assert_array_equal(found.it, iron_columns["it"])
    np.testing.assert_array_equal(found.ir, iron_columns["ir"])
    assert found.fluorescence is None
    assert (found.element, found.edge, found.completeness) == ("Fe", "K", 1.0)
    assert found.sample == Sample(name="LFP-3", uid="s-1")
    assert found.raw_uids == (documents[0][1]["uid"],)
    assert found.quality.verdict is Verdict.GOOD
    assert found.quality.reasons == ()


def test_fluorescence_elements_are_kept_apart():
    columns = {
        "dcm_energy": ENERGY,
        "I0": ONES,
        "Fe1": ONES,
        "Fe2": 2 * ONES,
        "Fe3": 3 * ONES,
        "Mn1": 50 * ONES,
    }
    found = first_scan(made_run(columns, units={"dcm_energy": "eV"}), GENERIC)
    assert {name: values[0] for name, values in found.fluorescence_elements.items()} == {
        "Fe1": 1.0,
        "Fe2": 2.0,
        "Fe3": 3.0,
    }
    assert found.fluorescence is None
    assert found.it is None


def test_setpoints_and_dead_time_keys_are_no_channels():
    columns = {
        "energy_setpoint": ENERGY + 1,
        "mono_energy": ENERGY,
        "i0": ONES,
        "it": ONES,
        "it_setpoint": 9 * ONES,
    }
    found = first_scan(made_run(columns, units={"energy_setpoint": "eV", "mono_energy": "eV"}), GENERIC)
    np.testing.assert_array_equal(found.energy, ENERGY)
    np.testing.assert_array_equal(found.it, ONES)


def test_a_moved_motor_in_kev_is_the_axis_whatever_its_name():
    columns = {"braggmotor": ENERGY / 1000, "width": 3 * ONES, "i0": ONES, "it": ONES}
    units = {"braggmotor": "keV", "width": "eV"}
    found = first_scan(made_run(columns, units=units, start={"motors": ["braggmotor"]}), GENERIC)
    np.testing.assert_allclose(found.energy, ENERGY)


def test_the_energy_that_the_plan_moved_is_the_axis():
    columns = {"energy": 12000 * ONES, "mono_energy": ENERGY, "mono_offset": ONES, "i0": ONES, "it": ONES}
    units = {"energy": "eV", "mono_energy": "eV", "mono_offset": "eV"}
    found = first_scan(made_run(columns, units=units, start={"motors": ["mono"]}), GENERIC)
    np.testing.assert_array_equal(found.energy, ENERGY)


def test_ambiguous_channels_are_named():
    columns = {"energy": ENERGY, "a_i0": ONES, "bb_i0": 2 * ONES, "it": ONES}
    found = first_scan(made_run(columns, units={"energy": "eV"}), GENERIC)
    np.testing.assert_array_equal(found.i0, ONES)
    assert found.quality.reasons == ("a_i0, bb_i0 are all called like i0; a_i0 was taken",)


def test_values_above_1000_without_unit_are_ev_with_a_remark():
    found = first_scan(made_run({"energy": ENERGY, "i0": ONES, "it": ONES}), GENERIC)
    assert found.energy[0] == 7000.0
    assert "taken as eV" in found.quality.reasons[0]


@pytest.mark.parametrize(
    ("scale", "units", "message"), [(1e-3, None, "do not tell eV"), (1, {"energy": "mm"}, "mm")]
)
def test_an_axis_whose_unit_is_not_known_is_refused(scale, units, message):
    run = made_run({"energy": ENERGY * scale, "i0": ONES, "it": ONES}, units=units)
    with pytest.raises(DocumentError, match=message):
        first_scan(run, GENERIC)


def test_a_run_that_stops_early_is_incomplete_despite_its_success(iron_scan, iron_columns):
    found = first_scan(collect(iron_scan(stop_after=100)), GENERIC)
    planned = iron_columns["energy"].size
    assert found.completeness == pytest.approx(100 / planned)
    assert found.quality.verdict is Verdict.SUSPECT
    assert found.quality.reasons == (f"100 of {planned} planned points were measured",)


def test_completeness_counts_the_range_too():
    start = {"plan_pattern_args": {"args": ["energy", 7000.0, 7400.0], "num": 41}}
    run = made_run({"energy": ENERGY, "i0": ONES, "it": ONES}, units={"energy": "eV"}, start=start)
    found = first_scan(run, GENERIC)
    assert found.completeness == pytest.approx(0.5)
    assert found.quality.reasons == ("7000 to 7200 of 7000 to 7400 was scanned",)


def test_a_plan_of_unknown_size_is_noted():
    run = made_run(
        {"energy": ENERGY, "i0": ONES, "it": ONES}, units={"energy": "eV"}, start={"num_points": None}
    )
    found = first_scan(run, GENERIC)
    assert found.quality.verdict is Verdict.GOOD
    assert found.quality.reasons == ("the run does not say how many points it planned",)


def test_remarks_of_the_start_document_are_kept():
    run = made_run(
        {"energy": ENERGY, "i0": ONES, "it": ONES}, units={"energy": "eV"}, start={"remarks": ["odd", 7]}
    )
    assert first_scan(run, GENERIC).quality.reasons == ("odd",)


@pytest.mark.parametrize("status", ["fail", "abort"])
def test_a_run_that_failed_is_suspect(status):
    columns = {"energy": ENERGY, "i0": ONES, "it": ONES}
    run = made_run(columns, units={"energy": "eV"}, stop={"exit_status": status, "reason": "beam dump"})
    quality = first_scan(run, GENERIC).quality
    assert quality.verdict is Verdict.SUSPECT
    assert quality.reasons[0] == f"the run ended with exit status {status}: beam dump"


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"theta": ENERGY, "i0": ONES}, MissingDataError, "expected an energy axis"),
        ({"energy": ENERGY, "temperature": ONES}, MissingDataError, "no channel at all"),
        ({"energy": ENERGY, "i0": ONES}, MissingDataError, "found i0"),
        ({"energy": ["high"] * 41, "i0": ONES, "it": ONES}, DocumentError, "one number a point in energy"),
        ({"energy": ENERGY, "i0": ["dark"] * 41, "it": ONES}, DocumentError, "one number a point in i0"),
        ({"energy": [7000.0], "i0": [1.0], "it": [1.0]}, DocumentError, "at least 10 points"),
    ],
)
def test_runs_without_a_scan_are_refused(columns, error, message):
    with pytest.raises(error, match=message):
        first_scan(made_run(columns, units={"energy": "eV"}), GENERIC)


def test_an_empty_run_is_refused():
    with pytest.raises(MissingDataError, match="a run without events"):
        first_scan(CollectedRun(uid="a", start={"plan_name": "xafs"}), GENERIC)


def test_runs_of_other_techniques_are_not_absorption(documents_of):
    assert read_run(collect(documents_of(count([det], 3))), GENERIC).kind is RunKind.OTHER
    assert read_run(collect(documents_of(scan([det], motor, -1, 1, 20))), GENERIC).kind is RunKind.OTHER
    fixed = made_run(
        {"energy": 7000 * ONES, "i0": ONES, "it": ONES}, units={"energy": "eV"}, start={"edge": ""}
    )
    assert read_run(fixed, GENERIC).kind is RunKind.OTHER


def test_a_scan_of_the_energy_is_absorption_whatever_it_states():
    run = made_run({"energy": ENERGY, "i0": ONES, "it": ONES}, units={"energy": "eV"}, start={"element": ""})
    assert read_run(run, GENERIC).kind is RunKind.ABSORPTION
    assert first_scan(run, GENERIC).element == ""
