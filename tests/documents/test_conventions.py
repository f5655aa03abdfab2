"""Runs as BMM, ISS and QAS write them give the spectrum that arithmetic by hand gives."""

import numpy as np
import pytest

from bluesky_xpdml.documents import (
    RunKind,
    collector_for,
    detect_profile,
    read_run,
)
from bluesky_xpdml.documents.start import (
    claims_absorption,
    claims_scattering,
    declared_mode,
    planned_edge_energy,
)
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import DetectionMode, Verdict

HC = 12398.41984
EXACT = {"rtol": 0.0, "atol": 1e-9}


def collect(documents):
    (_, start), *rest = documents
    collector = collector_for(start)
    for name, document in rest:
        collector.feed(name, document)
    return collector.finish()


def scan_of(documents):
    measurement = read_run(collect(documents))
    if measurement.error is not None:
        raise measurement.error
    return measurement.scans[0]


def sweeps_of(documents):
    """Return all scans of a run of one element, or of several with one sweep each."""
    measurement = read_run(collect(documents))
    assert measurement.error is None
    return [*measurement.scans, *measurement.repeats]


def tables(documents):
    """Return the raw tables of a continuous scan by data key."""
    return {
        key: values[0]
        for name, document in documents
        if name == "event_page"
        for key, values in document["data"].items()
    }


def by_hand(documents, *, encoder, counts_per_degree):
    """Return energies and currents of a continuous scan: each step written out, sample by sample."""
    start, raw = documents[0][1], tables(documents)
    apb, readings = raw["apb_stream"], raw[encoder]
    time = readings["ts_s"] + readings["ts_ns"] * 1e-9
    counts = readings["encoder"].astype(float)
    counts[counts > 0] -= 2**24
    theta = -(counts / counts_per_degree + float(start["angle_offset"])) * np.pi / 180.0
    energy = HC / (2 * 3.1356 * np.sin(theta))
    currents = {}
    for number, name in enumerate(("i0", "it", "ir", "iff"), start=1):
        volt = (apb[name].astype(float) - start[f"ch{number}_offset"] * 1000.0) / 1e6
        currents[name] = volt / 10.0 ** start[f"ch{number}_amp_gain"]
    return np.interp(apb["timestamp"], time, energy), currents


@pytest.mark.parametrize("descending", [False, True])
def test_bmm_transmission_and_reference(conventions, descending):
    known = conventions.Known()
    documents = conventions.bmm_documents(known, descending=descending)
    assert detect_profile(documents[0][1]).name == "bmm"
    scan = scan_of(documents)
    rows = [document["data"] for name, document in documents if name == "event" and "It" in document["data"]]
    rows.sort(key=lambda row: row["dcm_energy"])
    np.testing.assert_allclose(scan.energy, [row["dcm_energy"] for row in rows], **EXACT)
    for channels, keys in (((scan.i0, scan.it), ("I0", "It")), ((scan.it, scan.ir), ("It", "Ir"))):
        found = np.log(channels[0] / channels[1])
        np.testing.assert_allclose(found, [np.log(row[keys[0]] / row[keys[1]]) for row in rows], **EXACT)
    assert (scan.element, scan.edge, scan.completeness) == ("Fe", "K", 1.0)
    assert scan.sample.name == "iron oxide"
    assert scan.source == "feo"
    assert scan.quality.verdict is Verdict.GOOD
    assert scan.fluorescence is None
    assert scan.fluorescence_elements == {}


@pytest.mark.parametrize("legacy", [False, True])
def test_bmm_fluorescence_by_element_of_the_detector(conventions, legacy):
    known = conventions.Known()
    documents = conventions.bmm_documents(known, mode="fluorescence", legacy=legacy, others=("Mn", "Co"))
    scan = scan_of(documents)
    names = [f"DTC{i}" if legacy else f"Fe{i}" for i in range(1, 5)]
    assert list(scan.fluorescence_elements) == names
    rows = [document["data"] for name, document in documents if name == "event" and "I0" in document["data"]]
    expected = [sum(row[name] for name in names) / row["I0"] for row in rows]
    found = np.sum(list(scan.fluorescence_elements.values()), axis=0) / scan.i0
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert declared_mode(documents[0][1], detect_profile(documents[0][1])) is DetectionMode.FLUORESCENCE


def test_bmm_electron_yield(conventions):
    documents = conventions.bmm_documents(conventions.Known(), mode="yield")
    scan = scan_of(documents)
    rows = [document["data"] for name, document in documents if name == "event" and "Iy" in document["data"]]
    expected = [row["Iy"] / row["I0"] for row in rows]
    np.testing.assert_allclose(scan.electron_yield / scan.i0, expected, **EXACT)
    assert declared_mode(documents[0][1], detect_profile(documents[0][1])) is DetectionMode.ELECTRON_YIELD


def test_bmm_names_two_modes_in_one_plan(conventions):
    documents = conventions.bmm_documents(conventions.Known(), mode="yield + fluorescence")
    scan = scan_of(documents)
    assert scan.electron_yield is not None
    assert len(scan.fluorescence_elements) == 4
    assert declared_mode(documents[0][1], detect_profile(documents[0][1])) is None


def test_a_bmm_run_that_was_stopped_early_is_incomplete_despite_its_success(conventions):
    known = conventions.Known()
    scan = scan_of(conventions.bmm_documents(known, stop_after=200))
    assert scan.completeness == pytest.approx(200 / known.grid().size)
    assert scan.quality.verdict is Verdict.SUSPECT
    assert scan.quality.reasons == (f"200 of {known.grid().size} planned points were measured",)


def test_bmm_spectra_of_the_detector_are_not_read(conventions):
    run = collect(conventions.bmm_documents(conventions.Known(), mode="fluorescence"))
    assert run.streams["primary"].arrays == {}
    assert run.remarks() == ()


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(
    ("beamline", "encoder", "counts_per_degree"),
    [("iss", "pb9_enc1", 360000.0), ("qas", "pb1_enc1", 26222.222222222223)],
)
def test_continuous_scans(conventions, beamline, encoder, counts_per_degree, structured):
    known = conventions.Known()
    write = getattr(conventions, f"{beamline}_documents")
    documents = write(known, noise=1e-3)
    assert detect_profile(documents[0][1]).name == beamline
    energy, currents = by_hand(documents, encoder=encoder, counts_per_degree=counts_per_degree)
    order = np.argsort(energy)
    if not structured:
        documents = as_json(documents)
    scan = scan_of(documents)
    np.testing.assert_allclose(scan.energy, energy[order], **EXACT)
    transmitted = np.log(currents["i0"] / currents["it"])[order]
    np.testing.assert_allclose(np.log(scan.i0 / scan.it), transmitted, **EXACT)
    reference = -np.log(currents["ir"] / currents["it"])[order]
    np.testing.assert_allclose(np.log(scan.it / scan.ir), reference, **EXACT)
    fluorescence = (currents["iff"] / currents["i0"])[order]
    np.testing.assert_allclose(scan.fluorescence / scan.i0, fluorescence, **EXACT)
    assert scan.i0.max() < 0.0
    assert (scan.element, scan.edge) == ("Fe", "K")
    assert planned_edge_energy(documents[0][1], detect_profile(documents[0][1])) == 7112.0


def as_json(documents):
    """Return the documents with rows of numbers in place of structured arrays."""
    plain = []
    for name, document in documents:
        if name == "event_page":
            data = {
                key: [[list(row) for row in value.tolist()] for value in values]
                for key, values in document["data"].items()
            }
            plain.append((name, document | {"data": data}))
        else:
            plain.append((name, document))
    return plain


def test_a_continuous_scan_gives_the_absorption_of_the_sample(conventions):
    known = conventions.Known()
    scan = scan_of(conventions.iss_documents(known))
    expected = known.mu(scan.energy, known.sample_above) + 0.3 + np.log(10.0)
    found = np.log(scan.i0 / scan.it)
    step = (np.abs(scan.energy - known.edge_energy) > 40.0) & (scan.energy > known.edge_energy - 140.0)
    # Digitised currents and counts of the encoder are whole numbers.
    np.testing.assert_allclose(found[step], expected[step], atol=2e-3)


@pytest.mark.parametrize(("beamline", "trigger"), [("iss", "apb_trigger_xs"), ("qas", "apb_trigger")])
def test_exposures_of_a_triggered_detector(conventions, beamline, trigger):
    known = conventions.Known()
    documents = getattr(conventions, f"{beamline}_documents")(known, triggered=True)
    encoder = "pb9_enc1" if beamline == "iss" else "pb1_enc1"
    per_degree = 360000.0 if beamline == "iss" else 26222.222222222223
    energy, currents = by_hand(documents, encoder=encoder, counts_per_degree=per_degree)
    raw = tables(documents)
    time, edges = raw["apb_stream"]["timestamp"], raw[trigger]["timestamp"]
    inside = [(time >= rise) & (time < fall) for rise, fall in zip(edges[::2], edges[1::2], strict=True)]
    # The first exposure ended before the first current was measured.
    held = [number for number, samples in enumerate(inside) if samples.any()]
    inside = [inside[number] for number in held]
    assert len(held) == 399
    scan = scan_of(documents)
    np.testing.assert_allclose(scan.energy, [energy[i].mean() for i in inside], **EXACT)
    # Counts are positive, and the amplifier counted downwards.
    np.testing.assert_allclose(scan.i0, [-currents["i0"][i].mean() for i in inside], rtol=1e-9)
    assert "i0, it, ir are negative currents; their signs were turned" in scan.quality.reasons
    assert len(scan.fluorescence_elements) == 4
    counts = np.sum(list(scan.fluorescence_elements.values()), axis=0)
    written = conventions.triggers_and_counts(known)[1]
    np.testing.assert_array_equal(counts, np.sum(written, axis=0)[held])
    assert "1 points without a positive, finite energy were left out" in scan.quality.reasons
    assert scan.fluorescence is None
    assert any("400 exposures" in reason for reason in scan.quality.reasons)


def test_sweeps_up_and_down_are_repeats(conventions):
    known = conventions.Known()
    documents = conventions.iss_documents(known, sweeps=3, n_samples=30_000)
    scans = sweeps_of(documents)
    assert len(scans) == 3
    energy, currents = by_hand(documents, encoder="pb9_enc1", counts_per_degree=360000.0)
    seconds = tables(documents)["apb_stream"]["timestamp"] - conventions.EPOCH
    thirds = [np.flatnonzero((seconds > 10 * i) & (seconds <= 10 * i + 10)) for i in range(3)]
    for scan, third in zip(scans, thirds, strict=True):
        assert abs(scan.energy.size - third.size) < 5
        assert np.ptp(scan.energy) > 0.99 * (known.high - known.low)
        order = np.argsort(energy[third])
        inner = slice(100, -100)
        expected = np.interp(
            scan.energy[inner], energy[third][order], np.log(currents["i0"] / currents["it"])[third][order]
        )
        np.testing.assert_allclose(np.log(scan.i0 / scan.it)[inner], expected, **EXACT)
    first = scan_of(documents)
    assert "sweep 1 of 3 of the energy in one run" in first.quality.reasons
    np.testing.assert_array_equal(first.energy, scans[0].energy)


def test_repeats_of_a_step_scan_in_one_run(conventions):
    known = conventions.Known()
    energy = np.concatenate([known.grid(), known.grid(), known.grid()[:100]])
    scans = sweeps_of(conventions.bmm_documents(known, energy=energy))
    assert [scan.energy.size for scan in scans] == [known.grid().size] * 2
    assert all(scan.completeness == 1.0 for scan in scans)
    assert any("100 points of sweeps that were broken off" in reason for reason in scans[0].quality.reasons)


def test_several_absorbers_in_one_scan(conventions):
    known = conventions.Known(element="Mn", edge_energy=6539.0, high=900.0)
    documents = conventions.bmm_documents(known, mode="fluorescence", others=("Fe",))
    documents[0][1]["XDI"]["Element"] = {"symbol": ["Mn", "Fe"], "edge": "K"}
    documents[0][1]["XDI"]["_dtc"] = None
    scans = sweeps_of(documents)
    assert [(scan.element, scan.edge) for scan in scans] == [("Mn", "K"), ("Fe", "K")]
    assert list(scans[0].fluorescence_elements) == ["Mn1", "Mn2", "Mn3", "Mn4"]
    assert list(scans[1].fluorescence_elements) == ["Fe1", "Fe2", "Fe3", "Fe4"]
    assert "the run names Mn, Fe; this is Mn" in scans[0].quality.reasons


def test_offsets_are_subtracted_from_a_step_scan_of_iss(conventions):
    energy = np.arange(7000.0, 7300.0, 1.0)
    run = conventions._Run(
        {"experiment": "step_scan", "element": "Fe", "edge": "K", "num_points": energy.size}
    )
    channels = {"apb_ave_ch1_mean": 900.0, "apb_ave_ch2_mean": 400.0}
    data = {"apb_ave_ch1_offset": 5.0, "apb_ave_ch2_offset": -3.0, "apb_ave_divide": "x"}
    configuration = {"apb_ave": {"data": data, "timestamps": {}, "data_keys": {}}}
    keys = {"hhm_energy": {"units": "eV"}, **{key: {} for key in channels}}
    descriptor = run.describe("primary", keys, configuration=configuration)
    run.events("primary", descriptor, [{"hhm_energy": float(each), **channels} for each in energy])
    scan = scan_of(run.stop())
    assert set(scan.i0) == {895.0}
    assert set(scan.it) == {403.0}


def test_runs_of_both_techniques_at_qas_are_told_apart(conventions):
    diffraction = conventions.qas_diffraction_documents(
        np.full((8, 8), 5, dtype=np.uint16), element="Ni", edge="K"
    )
    profile = detect_profile(diffraction[0][1])
    assert profile.name == "qas"
    assert claims_scattering(diffraction[0][1], profile)
    run = collect(diffraction)
    assert read_run(run).kind is RunKind.SCATTERING
    assert run.streams["primary"].images["pe1_image"].n_frames == 2
    absorption = conventions.qas_documents(conventions.Known(), start={"calibration_md": {"dist": 0.2}})
    profile = detect_profile(absorption[0][1])
    run = collect(absorption)
    assert claims_absorption(run.start, profile)
    assert read_run(run).kind is RunKind.ABSORPTION


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda start, _: start.pop("angle_offset"), MissingDataError, "angle_offset"),
        (lambda _, raw: raw.pop("pb9_enc1"), MissingDataError, "a table of the encoder"),
        (lambda _, raw: raw.pop("apb_stream"), MissingDataError, "a table of currents"),
        (lambda _, raw: raw["pb9_enc1"][0]["ts_s"].__iadd__(3600), DocumentError, "clocks"),
    ],
)
def test_incomplete_continuous_scans_are_refused(conventions, spoil, error, message):
    documents = conventions.iss_documents(conventions.Known(), n_samples=2_000)
    raw = {}
    for name, document in documents:
        if name == "event_page":
            raw |= document["data"]
    pages = [(name, document) for name, document in documents if name == "event_page"]
    spoil(documents[0][1], raw)
    for _, page in pages:
        page["data"] = {key: values for key, values in page["data"].items() if key in raw}
    with pytest.raises(error, match=message):
        scan_of(documents)


def test_a_missing_gain_is_named(conventions):
    documents = conventions.iss_documents(conventions.Known(), n_samples=2_000)
    del documents[0][1]["ch2_amp_gain"]
    scan = scan_of(documents)
    assert "ch2_amp_gain is not given: it of apb_stream has no known gain" in scan.quality.reasons
