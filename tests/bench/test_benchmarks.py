"""Every benchmark gives the table that scripts depend on. No figure of speed is asserted here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bluesky_xpdml.bench.accuracy import measure_accuracy

PROGRAM = Path(sys.executable).with_name("xpdml")


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


def bench(*arguments: str) -> dict:
    done = subprocess.run(
        [str(PROGRAM), "bench", *arguments, "--json"], capture_output=True, text=True, timeout=900, check=True
    )
    return json.loads(done.stdout)


def test_accuracy_beats_the_commonest_answer(shared_data):
    report = measure_accuracy(
        shared_data / "simulation", ["Cr"], seeds=[0], splits=["formula"], progress=silent
    ).as_json()
    keys = {"element", "modality", "target", "split", "metric", "mean", "sd", "n_train", "n_test", "majority"}
    assert all(set(row) == keys for row in report["rows"])
    figures = {(row["element"], row["target"], row["metric"]): row for row in report["rows"]}
    state = figures["Cr", "oxidation_state", "accuracy"]
    assert state["mean"] > state["majority"] + 0.1
    assert figures["Cr", "bond_length", "r2"]["mean"] > 0.7
    assert state["n_train"] > 3 * state["n_test"]


def test_speed_stands_beside_a_peer():
    report = bench("speed", "--quick")
    assert all(set(row) == {"what", "ours_ms", "peer", "peer_ms", "ratio"} for row in report["rows"])
    forest = next(row for row in report["rows"] if "one forest" in row["what"])
    assert forest["peer"] == "scikit-learn"
    assert forest["ratio"] == pytest.approx(forest["peer_ms"] / forest["ours_ms"])


@pytest.mark.slow
def test_publish_counts_every_run():
    report = bench("publish", "--quick")
    rows = {row["metric"]: row for row in report["rows"]}
    assert rows["stop_to_found"]["n"] == 13
    assert {"p50", "p95", "n", "unit"} <= set(rows["stop_to_found"])
    assert report["conditions"]["failed"] == 0


@pytest.mark.slow
def test_measured_oxides_come_out_right_without_their_own_labels(shared_data):
    experiment = shared_data / "experiment" / "xanes"
    report = bench(
        "experiment", "--standards", str(experiment), "--simulation", str(shared_data / "simulation")
    )
    assert all(
        set(row) == {"element", "target", "metric", "value", "baseline", "n_compounds"}
        for row in report["rows"]
    )
    figures = {(row["element"], row["target"], row["metric"]): row for row in report["rows"]}
    assert figures["all", "oxidation_state", "within_0.5"]["value"] >= 0.85
    assert (
        figures["all", "oxidation_state", "mae"]["value"]
        < figures["all", "oxidation_state", "mae"]["baseline"]
    )
