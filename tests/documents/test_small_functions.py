"""Small functions that read documents, each with one example that can be checked by hand."""

import numpy as np
import pytest

from bluesky_xpdml.documents.arrays import table_of
from bluesky_xpdml.documents.collector import RunCollector, collect_run, collector_for
from bluesky_xpdml.documents.measurement import read_run
from bluesky_xpdml.documents.profile import load_profile, matching
from bluesky_xpdml.documents.profile_check import check_profile
from bluesky_xpdml.documents.run import CollectedRun
from bluesky_xpdml.documents.scan import bragg_energy
from bluesky_xpdml.documents.start import origin_of
from bluesky_xpdml.documents.xas import sweeps


def test_tables():
    samples = np.array([(0.0, 5), (0.1, 6)], dtype=[("timestamp", "f8"), ("i0", "i4")])
    columns = {name: values.tolist() for name, values in table_of(samples).items()}
    assert columns == {"timestamp": [0.0, 0.1], "i0": [5.0, 6.0]}
    assert table_of([[1, 2], [3, 4]])["1"].tolist() == [2.0, 4.0]


def test_an_event_that_comes_twice_is_taken_once():
    collector = RunCollector({"uid": "a", "time": 0.0})
    collector.feed("descriptor", {"uid": "d", "name": "primary", "data_keys": {"i0": {}}})
    event = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 0.0, "data": {"i0": 3.0}}
    collector.feed("event", event)
    collector.feed("event", event)
    run = collector.finish()
    assert run.streams["primary"].column("i0").tolist() == [3.0]
    assert dict(run.anomalies) == {"events came twice": 1, "no stop document came": 1}


def test_runs_without_events():
    assert collector_for({"uid": "a", "plan_name": "count"}).uid == "a"
    assert collect_run([("start", {"uid": "a"}), ("stop", {"run_start": "a"})]).uid == "a"
    measurement = read_run(CollectedRun(uid="a", start={"plan_name": "xafs", "element": "Fe", "edge": "K"}))
    assert (measurement.kind, measurement.element) == ("absorption", "Fe")
    assert str(measurement.error).startswith("expected events with an energy")
    findings = check_profile(CollectedRun(uid="a", start={"element": "Fe"}), load_profile("generic"))
    missing = [finding.what for finding in findings if finding.is_missing]
    assert missing == ["edge", "energy and channels", "absorption scan"]


def test_names_and_origins():
    assert matching(("{element}[0-9]", "i_?f"), ["Fe1", "Fe2", "If"], "Fe") == ["Fe1", "Fe2"]
    start = {"uid": "a", "time": 12.5, "proposal": {"proposal_id": 312345}, "furnace": {"zone": "B"}}
    origin = origin_of(start, carry=("furnace.zone",))
    assert (origin.time, origin.proposal, origin.keys) == (12.5, "312345", {"furnace.zone": "B"})


def test_energies():
    assert float(bragg_energy(np.deg2rad(16.1376), 3.1356)) == pytest.approx(7113.0, abs=0.5)
    up = np.linspace(7000.0, 7200.0, 41)
    assert sweeps(np.concatenate([up, up[::-1], up])) == (slice(0, 41), slice(41, 82), slice(82, 123))
    assert sweeps(np.concatenate([up, up])) == (slice(0, 41), slice(41, 82))
