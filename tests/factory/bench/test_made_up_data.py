"""Benchmarks on small made-up data: the same code as on the development data, which need not be there."""

import csv
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.factory.bench.experiment import answer_row, experiment_rows
from bluesky_xpdml.factory.bench.live import CUTS, measure_live
from bluesky_xpdml.factory.bench.quality import HALVES, measure_quality
from bluesky_xpdml.vocabulary import Descriptor


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def judged_folder(tmp_path_factory):
    """Twelve scans of iron: even ones with a clear edge, odd ones pure noise; one is scored as neither."""
    folder = tmp_path_factory.mktemp("judged")
    random = np.random.default_rng(4)
    energy = np.concatenate([np.arange(6960.0, 7090.0, 5.0), np.arange(7090.0, 7180.0, 0.5)])
    energy = np.concatenate([energy, np.arange(7180.0, 7500.0, 5.0)])
    edge = 0.2 + 0.5 + np.arctan((energy - 7122.0) / 1.5) / np.pi
    mu = [
        edge + random.normal(0.0, 2e-4, energy.size) if n % 2 == 0 else random.normal(1.0, 0.2, energy.size)
        for n in range(12)
    ]
    np.savez(folder / "bmm_spectra.npz", energy=np.tile(energy, (12, 1)), mu=np.stack(mu))
    scores = ["1" if n % 2 == 0 else "0" for n in range(11)] + ["0.5"]
    rows = [{"scan_uid": f"s{n}", "collection": "made", "score": score} for n, score in enumerate(scores)]
    write_csv(folder / "labels.csv", rows)
    return folder


def test_verdicts_of_clear_edges_and_of_noise_agree_with_their_labels(judged_folder):
    report = measure_quality(judged_folder).as_json()
    overall = [row for row in report["rows"] if row["collection"] == "all"]
    assert [row["half"] for row in overall] == list(HALVES)
    assert all(row["balanced_accuracy"] == 1.0 for row in overall)
    counts = [key for key in report["rows"][0] if ": " in key]
    assert sum(row[key] for row in overall for key in counts) == 11
    assert report["conditions"]["scans"] == dict.fromkeys(HALVES, 6)
    assert sum(report["conditions"]["left out"].values()) == 1
    assert "balanced accuracy 1.0000" in report["conditions"]["contrast of the edge alone"]


def test_live_predictions_of_a_whole_scan_are_the_final_ones(tmp_path):
    scan = simulated_scan(seed=1)
    table = np.column_stack([scan.energy, scan.i0, scan.it, scan.ir])
    np.savetxt(tmp_path / "scan.dat", table, header="energy(eV) i0 itrans irefer", comments="# ")
    row = {"file": "scan.dat", "element": "Fe", "is_oxide": "1", "oxidation_state": "3", "energy_offset": ""}
    write_csv(tmp_path / "labels.csv", [row, row | {"is_oxide": "0", "file": "not read"}])
    report = measure_live(tmp_path, scans=1, progress=silent)
    assert [row["reach_ev"] for row in report.rows] == list(CUTS)
    assert [row["files"] for row in report.rows] == [1] * len(CUTS)
    whole = report.rows[-1]
    assert whole["state_p50"] == whole["number_p50"] == whole["length_p50"] == 0.0
    assert whole["completeness"] < 1.0
    assert report.conditions["files"] == 1
    assert report.conditions["documents timed"] == scan.energy.size + 3


def compound(name: str, element: str, truth: float, answer: float, **changes: object) -> dict[str, object]:
    """Return what is known and predicted of one compound; its coordination number is 6."""
    return {
        "element": element,
        "compound": name,
        "calibrated": True,
        "flagged": False,
        "true_state": truth,
        "true_number": 6.0,
        "true_length": 2.0,
        "state": answer,
        "state_range": (answer - 0.4, answer + 0.4),
        "number": 5.8,
        "number_range": (4.0, 6.0),
        "length": 2.02,
        "length_range": (1.9, 2.1),
        "curve": truth,
        "plain_curve": truth + 1.0,
        "plain_recipe": 3.0,
        "majority": 3.0,
        "trivial_length": 2.1,
    } | changes


def test_metrics_of_measured_compounds_are_those_by_hand():
    compounds = [
        compound("FeO", "Fe", 2.0, 2.1),
        compound("Fe2O3", "Fe", 3.0, 3.6, calibrated=False, true_number=np.nan),
        compound("NiO", "Ni", 2.0, 2.0, flagged=True),
    ]
    rows = list(experiment_rows("made up", compounds))
    figures = {(row["element"], row["target"], row["metric"]): row for row in rows}
    state, number, length = Descriptor.main()
    assert {row["element"] for row in rows} == {"Fe", "Ni", "all", "all on the foil's scale"}
    error = figures["all", state, "mae"]
    assert (error["value"], error["baseline"]) == pytest.approx(((0.1 + 0.6 + 0.0) / 3.0, 1.0))
    assert figures["all", state, "within_0.5"]["value"] == pytest.approx(2.0 / 3.0)
    assert figures["all", state, "coverage_90"]["value"] == pytest.approx(2.0 / 3.0)
    assert figures["all", state, "flagged_as_novel"]["value"] == pytest.approx(1.0 / 3.0)
    assert figures["all", state, "interval_width"]["value"] == pytest.approx(0.8)
    assert figures["all on the foil's scale", state, "mae"]["n"] == 2
    assert (figures["Fe", number, "accuracy"]["n"], figures["Fe", number, "accuracy"]["value"]) == (1, 1.0)
    assert figures["all", length, "bias"]["value"] == pytest.approx(0.02)
    assert figures["all", length, "bias"]["baseline"] == pytest.approx(0.1)


def test_the_printed_row_of_a_compound_has_no_numbers_that_are_not_known():
    row = answer_row(compound("Fe2O3", "Fe", 3.0, 3.12345, true_number=np.nan))
    assert row["true_number"] is None
    assert (row["value"], row["low"], row["high"]) == pytest.approx((3.123, 2.723, 3.523), abs=1e-3)
    assert (row["element"], row["compound"], row["edge_curve"]) == ("Fe", "Fe2O3", 4.0)
