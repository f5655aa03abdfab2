"""A Tiled server whose catalog and tables are in PostgreSQL, also when that is restarted meanwhile."""

from collections import Counter
from contextlib import closing

import numpy as np
import pytest
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRun
from tiled.queries import Key

from bluesky_xpdml.factory.bench.postgres import Postgres, programs
from bluesky_xpdml.publish import (
    LiveRun,
    PredictionCatalog,
    Query,
    TiledPublisher,
    derived_run,
    outbox_publisher,
)
from bluesky_xpdml.records import PairDistribution
from bluesky_xpdml.vocabulary import Technique

PATIENCE = 240.0
N_RUNS = 30
CURVE = PairDistribution(
    r=np.linspace(0.0, 20.0, 120), g=np.linspace(-1.0, 1.0, 120), composition={"Fe": 1.0}
)


@pytest.fixture(scope="module")
def postgres():
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    with Postgres(found) as running:
        yield running


@pytest.fixture
def server(postgres, serve, request):
    """Return address and key of a server whose catalog and tables are in a database of its own."""
    uri = postgres.database(request.node.name[:60])
    catalog = {"uri": uri, "init_if_not_exists": True, "writable_storage": ["data", uri]}
    with serve({"trees": [{"path": "/", "tree": "catalog", "args": catalog}]}) as served:
        yield served


def test_derived_runs_are_published_found_and_read(server, answer, tmp_path):
    uri, key = server
    sender = outbox_publisher(uri, api_key=key, path="a/xpdml", folder=tmp_path)
    for number in range(3):
        prediction = answer(f"raw-{number}", 2.0 + 0.5 * number, pdf=CURVE, technique=Technique.PDF)
        sender.publish(derived_run(prediction))
    live = LiveRun()
    for state in (1.0, 2.0, 3.0):
        sender.extend(live.update(answer("raw-live", state)))
    sender.extend(live.finish())
    assert sender.flush(PATIENCE)
    sender.close()
    with closing(TiledPublisher.from_uri(uri, api_key=key, path="a/xpdml")) as publisher:
        container = publisher.container
        catalog = PredictionCatalog(container)
        assert {each.raw_uids for each in catalog.find(Query(element="Fe"))} == {
            (f"raw-{number}",) for number in range(3)
        }
        high = Key("start.descriptors.oxidation_state.value") > 2.75
        (run,) = container.search(high).search(Key("start.sample.name") == "LFP").values()
        assert isinstance(run, BlueskyRun)
        assert run.start["raw_uid"] == "raw-2"
        assert run.prediction.raw_uids == ("raw-2",)
        np.testing.assert_array_equal(run.curves()["pdf"].g, CURVE.g)
        (rows,) = container.search(Key("start.raw_uid") == "raw-live").values()
        assert rows["updates"].read()["oxidation_state"].values.tolist() == [1.0, 2.0, 3.0]
        assert rows.stop["num_events"] == {"updates": 3}


def test_a_restart_of_the_database_loses_and_doubles_nothing(server, postgres, answer, tmp_path):
    uri, key = server
    sender = outbox_publisher(uri, api_key=key, path="xpdml", folder=tmp_path)
    for number in range(N_RUNS):
        sender.publish(derived_run(answer(f"raw-{number}", pdf=CURVE, technique=Technique.PDF)))
        if number == N_RUNS // 3:
            postgres.stop()
        if number == 2 * N_RUNS // 3:
            assert sender.waiting > 0
            postgres.start()
    assert sender.flush(PATIENCE)
    sender.close()
    with closing(TiledPublisher.from_uri(uri, api_key=key, path="xpdml")) as publisher:
        runs = list(publisher.container.values())
        found = Counter(run.start["raw_uid"] for run in runs)
        assert found == {f"raw-{number}": 1 for number in range(N_RUNS)}
        for run in runs:
            assert run.stop["exit_status"] == "success"
            np.testing.assert_array_equal(run.curves()["pdf"].g, CURVE.g)
