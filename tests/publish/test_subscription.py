"""Predictions passed on as they arrive, by the server's stream and without one."""

import queue
import threading
import time

import pytest

from bluesky_xpdml.publish import Cursor, PredictionCatalog, Query

PATIENCE = 10.0


def test_the_stream_notifies_long_before_the_next_request(catalog, container, answer, put):
    came = queue.Queue()
    with catalog.subscribe(came.put, interval=3600.0) as subscription:
        end = time.monotonic() + PATIENCE
        while not subscription.has_stream and time.monotonic() < end:
            time.sleep(0.01)
        assert subscription.has_stream
        put(container, answer("a"), 20.0)
        put(container, answer("late"), 1.0)
        assert [came.get(timeout=PATIENCE).raw_uids[0] for _ in range(2)] == ["a", "late"]
    assert came.empty()


def test_without_a_stream_the_server_is_asked(container, answer, put, monkeypatch):
    catalog = PredictionCatalog(container)
    monkeypatch.setattr("bluesky_xpdml.publish.subscription.STREAM", "no/such/stream")
    came = queue.Queue()
    with catalog.subscribe(came.put, interval=0.05, query=Query(element="Fe")) as subscription:
        put(container, answer("other", element="Ni"), 1.0)
        put(container, answer("a"), 2.0)
        assert came.get(timeout=PATIENCE).raw_uids == ("a",)
        assert not subscription.has_stream


def test_a_later_subscription_goes_on_where_the_first_ended(catalog, container, answer, put):
    for number in range(5):
        put(container, answer(f"raw-{number}"), float(number))
    first, met = queue.Queue(), threading.Event()

    def keep_two(prediction):
        first.put(prediction.raw_uids[0])
        if first.qsize() == 2:
            met.set()
            raise KeyboardInterrupt

    subscription = catalog.subscribe(keep_two, cursor=Cursor(), interval=0.05)
    assert met.wait(PATIENCE)
    with pytest.raises(KeyboardInterrupt):
        subscription.close()
    second = queue.Queue()
    with catalog.subscribe(second.put, cursor=subscription.cursor, interval=0.05):
        # What the function failed at was not handed over: it comes again.
        assert [second.get(timeout=PATIENCE).raw_uids[0] for _ in range(4)] == [
            f"raw-{number}" for number in range(1, 5)
        ]


def test_what_the_function_raises_ends_the_subscription_and_is_raised(catalog, container, answer, put):
    def refuse(prediction):
        raise ValueError(f"no use for {prediction.raw_uids[0]}")

    subscription = catalog.subscribe(refuse, interval=0.05)
    put(container, answer("a"), 1.0)
    with pytest.raises(ValueError, match="no use for a"):
        subscription.join(PATIENCE)
    subscription.close()


def test_a_server_that_was_away_is_asked_again(catalog, container, answer, put):
    came, refused = queue.Queue(), threading.Event()
    hooks = container.context.http_client.event_hooks

    def away(request):
        if threading.current_thread().name == "xpdml-subscription":
            refused.set()
            raise ConnectionRefusedError("away")

    with catalog.subscribe(came.put, interval=0.05):
        container.context.http_client.event_hooks = {**hooks, "request": [*hooks["request"], away]}
        put(container, answer("a"), 1.0)
        assert refused.wait(PATIENCE)
        assert came.empty()
        container.context.http_client.event_hooks = hooks
        assert came.get(timeout=PATIENCE).raw_uids == ("a",)
