"""Every benchmark gives the table that scripts depend on. No figure of speed is asserted here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bluesky_xpdml.factory.bench.queries import time_queries

PROGRAM = Path(sys.executable).with_name("xpdml")


def bench(*arguments: str) -> dict:
    done = subprocess.run(
        [str(PROGRAM), "bench", *arguments, "--json"], capture_output=True, text=True, timeout=900, check=True
    )
    return json.loads(done.stdout)


def test_speed_stands_beside_a_peer(xpdml):
    (report,) = xpdml("bench", "speed", "--quick", "--json").objects
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
    assert (rows["requests_per_run"]["p50"], rows["requests_per_run"]["p99"]) == (8.0, 8.0)
    assert rows["runs_per_second"]["n"] == 25


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


def require_queries(report, *, runs):
    rows = {row["query"]: row for row in report["rows"]}
    assert report["conditions"]["runs"] == runs
    assert rows["raw run"]["found"] == 1
    assert rows["newest 100"]["found"] == 100
    assert all(row["p50"] <= row["p95"] <= row["worst"] for row in report["rows"])


def test_queries_tell_how_long_each_kind_takes(tiled_server):
    report = time_queries(
        tiled_server.uri,
        tiled_server.directory,
        path="timed-queries",
        runs=300,
        repeats=2,
        seed=1,
        progress=lambda *_: None,
    )
    require_queries({"conditions": report.conditions, "rows": report.rows}, runs=300)


@pytest.mark.slow
def test_the_command_times_queries_on_a_server_of_its_own():
    require_queries(bench("queries", "--quick"), runs=1000)
