"""Derived runs in a real Tiled server: written once, found by the server, read back as they were."""

import gc
import socket
from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import (
    PredictionCatalog,
    Publisher,
    Query,
    TiledPublisher,
    connect,
    derived_run,
    find_predictions,
    open_container,
)
from bluesky_xpdml.records import DetectionMode, EnergyAxis, Estimate, Prediction, Quality, Xanes
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

ENERGY = np.linspace(7000.0, 7300.0, 50)


def prediction(raw_uid, state=2.5):
    spectrum = Xanes(
        energy=ENERGY,
        mu=ENERGY,
        norm=ENERGY / 7100,
        flat=ENERGY / 7200,
        pre_edge=0 * ENERGY,
        post_edge=ENERGY,
        e0=7112.0,
        edge_step=1.0,
        element="Fe",
        edge="K",
        mode=DetectionMode.MU,
        axis=EnergyAxis(),
        settings={},
    )
    answer = Estimate(
        value=state, low=state - 0.5, high=state + 0.5, unit="e", probabilities={"2": 0.5, "3": 0.5}
    )
    return Prediction(
        technique=Technique.XANES,
        element="Fe",
        edge="K",
        quality=Quality(),
        descriptors={Descriptor.OXIDATION_STATE: answer},
        raw_uids=(raw_uid,),
        xanes=spectrum,
    )


@pytest.fixture(scope="module")
def publisher(tiled_server):
    with_key = TiledPublisher.from_uri(tiled_server.uri, path="derived/xpdml")
    yield with_key
    with_key.close()


def test_a_run_is_found_by_its_raw_uid_and_read_back(publisher):
    publisher.publish(derived_run(prediction("raw-a")))
    (run,) = find_predictions(publisher.container, "raw-a")
    assert run.metadata["start"]["descriptors"]["oxidation_state"]["value"] == 2.5
    spectrum = run["xanes"].read()
    np.testing.assert_array_equal(spectrum["mu_norm"].values, ENERGY / 7100)
    assert spectrum["energy"].values.dtype == np.float64
    assert run["predictions"].read()["oxidation_state_high"].values.tolist() == [3.0]
    assert find_predictions(publisher.container, "raw-b") == []


def test_publishing_twice_is_one_run(publisher):
    documents = derived_run(prediction("raw-c"))
    before = publisher.n_written, publisher.n_already_there
    publisher.publish(documents)
    publisher.publish(documents)
    assert (publisher.n_written, publisher.n_already_there) == (before[0] + 1, before[1] + 1)
    assert len(find_predictions(publisher.container, "raw-c")) == 1


def test_a_half_written_run_is_written_anew(publisher, monkeypatch):
    monkeypatch.setattr("bluesky_xpdml.publish.writer.STALL_TIMEOUT", 0.2)
    documents = derived_run(prediction("raw-d"))
    publisher.publish([document for document in documents if document[0] != "stop"])
    (broken,) = find_predictions(publisher.container, "raw-d")
    assert "stop" not in broken.metadata
    publisher.publish(documents)
    (whole,) = find_predictions(publisher.container, "raw-d")
    assert whole.metadata["stop"]["exit_status"] == "success"
    assert whole["predictions"].read()["oxidation_state"].values.tolist() == [2.5]


def test_a_server_that_stumbles_in_the_midst_of_a_run_is_asked_once_more(tiled_server):
    """The second table is taken in by the server, and its answer is lost."""
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="derived/stumbled")
    answers = []

    def lose(response):
        answers.append(response.request.method)
        if answers.count("PUT") == 2 and response.request.method == "PUT":
            raise OSError("the answer was lost")

    hooks = publisher.container.context.http_client.event_hooks
    publisher.container.context.http_client.event_hooks = {**hooks, "response": [*hooks["response"], lose]}
    publisher.publish(derived_run(prediction("raw-s")))
    (run,) = find_predictions(publisher.container, "raw-s")
    assert run.metadata["stop"]["exit_status"] == "success"
    np.testing.assert_array_equal(run["xanes"].read()["mu_flat"].values, ENERGY / 7200)
    assert publisher.n_written == 1
    assert answers.count("PUT") == 4
    publisher.close()


def test_a_failure_is_a_run_without_streams(publisher):
    failed = replace(
        prediction("raw-e"),
        descriptors={},
        xanes=None,
        quality=Quality().failed(Reason("no model for Zn", ReasonCode.MODEL_MISSING)),
    )
    publisher.publish(derived_run(failed))
    (run,) = find_predictions(publisher.container, "raw-e")
    assert list(run) == []
    assert run.metadata["start"]["quality"] == {
        "verdict": "failed",
        "reasons": ["no model for Zn"],
        "codes": ["model-missing"],
    }


def test_the_server_searches_by_descriptor(publisher):
    publisher.publish(derived_run(prediction("raw-f", state=7.25)))
    (found,) = PredictionCatalog(publisher.container).find(Query(descriptors={"oxidation_state": (7.0, 7.5)}))
    assert found.raw_uids == ("raw-f",)


def test_the_container_is_a_catalog_of_bluesky_runs_and_made_once(publisher, tiled_server):
    again = TiledPublisher.from_uri(tiled_server.uri, path="derived/xpdml")
    assert again.container.item["id"] == publisher.container.item["id"]
    assert [spec.name for spec in again.container.specs] == ["CatalogOfBlueskyRuns"]
    assert isinstance(again, Publisher)
    again.close()


def test_a_path_is_needed(tiled_server):
    client = connect(tiled_server.uri)
    with pytest.raises(PublishError, match="path of a container"):
        open_container(client, "/")
    client.context.http_client.close()


# The client of a connection that was refused is lost inside tiled, which leaves it to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_wrong_key_is_refused_with_what_to_check(tiled_server):
    uri = tiled_server.uri.split("?", maxsplit=1)[0]
    with pytest.raises(PublishError, match="check the address and the key"):
        TiledPublisher.from_uri(uri, api_key="0" * 16)
    gc.collect()


def test_a_server_that_is_away_is_said_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(PublishError, match=f"expected a Tiled server at http://127.0.0.1:{port}"):
        TiledPublisher.from_uri(f"http://127.0.0.1:{port}", api_key="0" * 16)


def test_a_closed_connection_is_a_publish_error(tiled_server):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="closed")
    publisher.close()
    with pytest.raises(PublishError):
        publisher.publish(derived_run(prediction("raw-g")))
