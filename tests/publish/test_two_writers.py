"""One run published by two writers at the same moment: it is whole, and both report it as published."""

import threading
import time

import numpy as np
import pytest

from bluesky_xpdml.errors import attempt
from bluesky_xpdml.publish import TiledPublisher, derived_run, find_predictions
from bluesky_xpdml.records import DetectionMode, EnergyAxis, Xanes

# The dispatcher of documents warns of each error that a server answers with, and raises it as well.
pytestmark = pytest.mark.filterwarnings("ignore:The callback")

ENERGY = np.linspace(7000.0, 7300.0, 50)
SPECTRUM = Xanes(
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


def require_whole(container, raw_uid, *, with_spectrum=True):
    (run,) = find_predictions(container, raw_uid)
    assert run.metadata["stop"]["exit_status"] == "success"
    if with_spectrum:
        np.testing.assert_array_equal(run["xanes"].read()["mu_flat"].values, ENERGY / 7200)
    assert run["predictions"].read()["oxidation_state"].values.tolist() == [2.5]


@pytest.fixture
def publishers(tiled_server, request):
    """Return two publishers with connections of their own to one container."""
    path = f"derived/{request.node.name.rstrip(']').replace('[', '-')}"
    both = [TiledPublisher.from_uri(tiled_server.uri, path=path) for _ in range(2)]
    yield both
    for each in both:
        each.close()


def publish_together(publishers, documents):
    """Publish the same documents with each publisher at the same moment; return the errors."""
    ready, errors = threading.Barrier(len(publishers)), []

    def publish(publisher):
        ready.wait()
        error = attempt(lambda: publisher.publish(documents))
        if error is not None:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(each,)) for each in publishers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("n_runs", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_runs_by_two_publishers_are_each_published_once(publishers, answer, n_runs):
    for number in range(n_runs):
        # Most runs without curves, which cost most requests.
        more = {} if number % 5 else {"xanes": SPECTRUM}
        raw_uid = f"raw-{number}"
        assert publish_together(publishers, derived_run(answer(raw_uid, **more))) == []
        require_whole(publishers[0].container, raw_uid, with_spectrum=bool(more))
    assert sum(each.n_written for each in publishers) == n_runs
    assert sum(each.n_already_there for each in publishers) == n_runs


def test_a_run_that_another_process_gave_up_is_written_by_one_of_two(publishers, answer, monkeypatch):
    # Long enough that the two give up apart from each other on a busy machine too.
    monkeypatch.setattr("bluesky_xpdml.publish.writer.STALL_TIMEOUT", 10.0)
    monkeypatch.setattr("bluesky_xpdml.publish.writer.POLL_INTERVAL", 0.5)
    documents = derived_run(answer("raw", xanes=SPECTRUM))
    publishers[0].publish([each for each in documents if each[0] != "stop"])
    assert publish_together(publishers, documents) == []
    require_whole(publishers[0].container, "raw")


def test_a_writer_that_is_slow_but_makes_progress_is_waited_for(publishers, answer, monkeypatch):
    # Eight requests are slower than that together, and one of a busy machine is not.
    monkeypatch.setattr("bluesky_xpdml.publish.writer.STALL_TIMEOUT", 8.0)
    slow, other = publishers
    hooks = slow.container.context.http_client.event_hooks
    delayed = [*hooks["request"], lambda _request: time.sleep(2.0)]
    slow.container.context.http_client.event_hooks = {**hooks, "request": delayed}
    documents = derived_run(answer("raw", xanes=SPECTRUM))
    writing = threading.Thread(target=slow.publish, args=(documents,))
    writing.start()
    while len(other.container) == 0:
        time.sleep(0.05)
    other.publish(documents)
    writing.join()
    assert (slow.n_written, other.n_already_there) == (1, 1)
    require_whole(other.container, "raw")


def test_a_run_whose_streams_are_missing_is_written_anew_after_a_conflict(publishers, answer, monkeypatch):
    """A stop document does not make a run whole: a writer adds it even if its run was removed meanwhile."""
    monkeypatch.setattr("bluesky_xpdml.publish.writer.STALL_TIMEOUT", 0.2)
    publisher, other = publishers
    documents = derived_run(answer("raw", xanes=SPECTRUM))
    start, stop = documents[0][1], documents[-1][1]
    refused = []

    def intrude(request):
        if request.method == "POST" and not refused:
            refused.append(request)
            other.container.create_container(key=start["uid"], metadata={"start": start, "stop": stop})

    hooks = publisher.container.context.http_client.event_hooks
    publisher.container.context.http_client.event_hooks = {**hooks, "request": [*hooks["request"], intrude]}
    publisher.publish(documents)
    require_whole(publisher.container, "raw")
