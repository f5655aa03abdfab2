"""A run is read once: its kind, what it states, and its scans or images."""

import numpy as np
import pytest

from bluesky_xpdml.documents import (
    CollectedRun,
    RunKind,
    Stream,
    collect_run,
    load_profile,
    profile_names,
    read_run,
)
from bluesky_xpdml.documents import xas as xas_module
from bluesky_xpdml.records import DetectionMode, Sample
from bluesky_xpdml.vocabulary import ReasonCode, Technique

UP = np.linspace(7000.0, 7200.0, 41)


def step_scan(energy=UP, *, stop=True, given_up="", channels=("i0", "it"), **start):
    columns = {"energy": tuple(energy), **dict.fromkeys(channels, (1.0,) * energy.size)}
    stream = Stream(
        name="primary", data_keys={"energy": {"units": "eV"}}, columns=columns, n_events=energy.size
    )
    return CollectedRun(
        uid="a",
        start={"uid": "a", "time": 5.0, "num_points": energy.size, **start},
        streams={"primary": stream},
        stop={"exit_status": "success"} if stop else None,
        given_up=given_up,
    )


IRON = {"element": "Fe", "edge": "K", "sample": {"name": "LFP-3"}, "scan_id": 7}


def test_an_absorption_run_gives_what_its_prediction_states():
    measurement = read_run(step_scan(**IRON, mode="fluorescence", furnace={"T": 300}), carry=("furnace.T",))
    assert (measurement.kind, measurement.technique) == (RunKind.ABSORPTION, Technique.XANES)
    assert (measurement.element, measurement.edge, measurement.source) == ("Fe", "K", "7")
    assert measurement.sample == Sample(name="LFP-3")
    assert measurement.declared_mode is DetectionMode.FLUORESCENCE
    assert measurement.origin.keys == {"furnace.T": "300"}
    (scan,) = measurement.scans
    assert (scan.element, scan.time, measurement.repeats, measurement.error) == ("Fe", 5.0, (), None)


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (step_scan(), RunKind.ABSORPTION),
        (step_scan(np.full(41, 7000.0)), RunKind.OTHER),
        (step_scan(**IRON, purpose="xpdml"), RunKind.DERIVED),
        (step_scan(**IRON, purpose="xpdml.live"), RunKind.DERIVED),
        # A scan of the energy is absorption though the start document holds a calibration.
        (step_scan(calibration_md={"dist": 0.2}), RunKind.ABSORPTION),
        (CollectedRun(uid="a", start={"plan_name": "xafs"}), RunKind.ABSORPTION),
        (CollectedRun(uid="a", start={"calibration_md": {"dist": 0.2}}), RunKind.SCATTERING),
        (CollectedRun(uid="a", start={"dark_frame": True}), RunKind.DARK),
        (CollectedRun(uid="a", start={"plan_name": "xafs", "poni_file": "a.poni"}), RunKind.ABSORPTION),
        (CollectedRun(uid="a", start={"plan_name": "count"}), RunKind.OTHER),
    ],
)
def test_the_kind_of_a_run_follows_from_what_it_states_and_holds(run, kind):
    assert read_run(run).kind is kind


def test_sweeps_of_one_element_are_repeats_of_the_first():
    measurement = read_run(step_scan(np.concatenate([UP, UP[::-1], UP]), **IRON))
    assert len(measurement.scans) == 1
    assert len(measurement.repeats) == 2
    assert measurement.scans[0].quality.has(ReasonCode.INTERPRETED_INPUT)
    assert "sweep 1 of 3" in measurement.scans[0].quality.reasons[0]
    assert "sweep 3 of 3" in measurement.repeats[1].quality.reasons[0]


def test_each_element_of_a_run_has_a_scan_in_the_order_of_the_start_document():
    run = step_scan(element=["Mn", "Fe"], edge="K", channels=("i0", "it", "Fe1", "Mn1"))
    scans = read_run(run).scans
    assert [(scan.element, scan.edge) for scan in scans] == [("Mn", "K"), ("Fe", "K")]


def test_a_second_element_without_channels_leaves_the_first_alone():
    run = step_scan(element=["Mn", "Fe"], edge="K", channels=("i0", "Mn1"))
    measurement = read_run(run)
    assert [scan.element for scan in measurement.scans] == ["Mn"]
    assert measurement.repeats == ()
    assert measurement.error is None
    assert measurement.further_error.code is ReasonCode.MISSING_DATA


def test_a_run_that_cannot_be_read_keeps_its_error_with_a_code():
    measurement = read_run(step_scan(**IRON, channels=("temperature",)))
    assert measurement.scans == ()
    assert measurement.error.code is ReasonCode.MISSING_DATA
    assert "no channel at all" in measurement.error.reason


def test_a_run_is_parsed_once(monkeypatch):
    calls = []
    parse = xas_module.absorption_scan
    monkeypatch.setattr(xas_module, "absorption_scan", lambda **known: calls.append(1) or parse(**known))
    measurement = read_run(step_scan(np.concatenate([UP, UP[::-1]]), **IRON))
    assert calls == []
    for _ in range(3):
        assert (len(measurement.scans), len(measurement.repeats), measurement.error) == (1, 1, None)
    assert len(calls) == 2


def test_dark_frames_and_images_are_read_by_the_profile_of_the_collector(powder):
    dark = read_run(collect_run(powder.dark_run(n_frames=3), profile="xpd"))
    assert (dark.kind, dark.technique, dark.profile.name) == (RunKind.DARK, Technique.PDF, "xpd")
    assert (dark.dark.n_frames, dark.scattering, dark.error) == (3, None, None)
    light = read_run(collect_run(powder.older()))
    assert (light.kind, light.element, light.sample.composition) == (RunKind.SCATTERING, "", "Ni1.0O1.0")
    assert (light.scattering.dark_uid, light.scans) == ("dark", ())


def test_images_that_cannot_be_read_are_an_error(powder, tmp_path):
    resource = {"uid": "r", "spec": "AD_HDF5", "root": str(tmp_path), "resource_path": "none.h5"}
    datum = {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"point_number": 0}}
    files = [("resource", resource), ("datum", datum)]
    run = collect_run(powder.run({"primary": [{"pe1_image": "r/0"}]}, files=files, sc_dk_field_uid="d"))
    measurement = read_run(run)
    assert measurement.scattering is None
    assert "none.h5" in measurement.error.reason
    assert run.remarks()[0].code is ReasonCode.MISSING_DATA


def bare(documents):
    """Return a run without the marks by which its beamline is detected."""
    marks = {
        "sp_plan_name",
        "beamline_id",
        "user_config",
        "composition_str",
        "calibration_md",
        "bt_wavelength",
    }
    (_, start), *rest = documents
    return [("start", {key: value for key, value in start.items() if key not in marks}), *rest]


@pytest.fixture(scope="module")
def runs(conventions, powder):
    known = conventions.Known()
    light = {"primary": [{"pe1_image": powder.image[None]}]}
    return {
        "generic": conventions.bmm_documents(known),
        "bmm": conventions.bmm_documents(known, mode="fluorescence"),
        "iss": conventions.iss_documents(known, n_samples=2_000),
        "qas": conventions.qas_documents(known, n_samples=2_000),
        "pdf": bare(powder.positions()),
        "xpd": powder.run(light, sample_name="NiO", plan_name="count"),
        "xpdacq": bare(powder.streams()),
    }


def read_by(documents, profile):
    measurement = read_run(collect_run(documents, profile=profile), profile)
    return measurement.kind, measurement.scans, measurement.scattering, measurement.error


@pytest.mark.parametrize("parent", profile_names())
@pytest.mark.parametrize("way", ["path", "search path"])
def test_a_profile_that_extends_another_reads_runs_as_that_does(runs, tmp_path, monkeypatch, parent, way):
    own = tmp_path / "mine.toml"
    own.write_text(f'extends = "{parent}"\n[detect]\nrank = 0\nvalues = {{ hall = "mine" }}\n')
    (_, start), *rest = runs[parent]
    documents = [("start", start | {"hall": "mine"}), *rest]
    if way == "search path":
        monkeypatch.setenv("XPDML_PROFILES", str(tmp_path))
    kind, scans, images, error = read_by(documents, "auto" if way == "search path" else str(own))
    expected_kind, expected_scans, expected_images, expected_error = read_by(documents, load_profile(parent))
    assert (kind, error) == (expected_kind, expected_error)
    assert kind is (RunKind.SCATTERING if parent in {"pdf", "xpd", "xpdacq"} else RunKind.ABSORPTION)
    assert error is None
    for scan, expected in zip(scans, expected_scans, strict=True):
        np.testing.assert_array_equal(scan.energy, expected.energy)
        np.testing.assert_array_equal(scan.i0, expected.i0)
        assert list(scan.fluorescence_elements) == list(expected.fluorescence_elements)
    if images is not None:
        for position, expected in zip(images.positions, expected_images.positions, strict=True):
            np.testing.assert_array_equal(position.image.mean, expected.image.mean)


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "[bold]", "x" * 1_000_000, "\ud800", "\0"],
    ids=["escape", "markup", "huge", "half", "nul"],
)
def test_hostile_texts_do_no_harm(text):
    channels = ("i0", "it", text, f"{text}_i0", f"_{text}")
    run = step_scan(channels=channels, element=text, edge=text, sample_name=text, remarks=[text], mode=text)
    stop = {"exit_status": text, "reason": text}
    run = CollectedRun(uid=text, start=run.start, streams=run.streams, stop=stop)
    measurement = read_run(run)
    assert measurement.kind in {RunKind.ABSORPTION, RunKind.OTHER}
    assert all(len(reason) < 600 for reason in measurement.scans[0].quality.reasons)
