"""Documents find their run, whatever is missing or comes at the wrong time."""

import pytest

from bluesky_xpdml.callbacks import router as router_module
from bluesky_xpdml.callbacks.router import Router


def start(uid):
    return "start", {"uid": uid, "time": 0.0}


def descriptor(run):
    return "descriptor", {"uid": f"{run}-d", "run_start": run, "name": "primary", "data_keys": {"x": {}}}


def event(run, seq_num=1):
    document = {"uid": f"{run}-{seq_num}", "descriptor": f"{run}-d", "seq_num": seq_num, "data": {"x": 1.0}}
    return "event", document


def stop(run):
    return "stop", {"uid": f"{run}-z", "run_start": run, "exit_status": "success"}


def feed(router, *documents):
    return [run for document in documents for run in router.feed(*document)]


def events_of(run):
    return {name: stream.n_events for name, stream in run.streams.items()}


def test_interleaved_runs_are_told_apart():
    router = Router()
    runs = feed(
        router,
        start("a"),
        start("b"),
        descriptor("b"),
        descriptor("a"),
        event("a", 1),
        event("b", 1),
        event("a", 2),
        stop("b"),
        stop("a"),
    )
    assert [(run.uid, events_of(run)) for run in runs] == [("b", {"primary": 1}), ("a", {"primary": 2})]
    assert router.orphans == 0


def test_events_before_their_descriptor_are_kept():
    router = Router()
    (run,) = feed(router, start("a"), start("b"), event("a"), event("b"), descriptor("a"), stop("a"))
    assert events_of(run) == {"primary": 1}
    (other,) = feed(router, descriptor("b"), stop("b"))
    assert events_of(other) == {"primary": 1}
    assert router.orphans == 0


def test_documents_of_a_run_joined_midway_are_counted():
    router = Router()
    assert feed(router, event("a"), descriptor("a"), event("a"), stop("a")) == []
    assert router.orphans == 4


@pytest.mark.parametrize(
    "document",
    [
        ("start", {}),
        ("start", {"uid": ["a"]}),
        ("start", None),
        ("descriptor", {"uid": {}, "run_start": "a"}),
        ("event", {"descriptor": []}),
        ("stop", {"run_start": {}}),
        ("stop", 7),
    ],
)
def test_malformed_documents_are_counted(document):
    router = Router()
    assert feed(router, document) == []
    assert router.orphans == 1


def test_documents_of_external_files_are_passed_over():
    router = Router()
    assert (
        feed(router, ("resource", {"uid": "r"}), ("datum", {}), ("stream_datum", {}), ("nonsense", {})) == []
    )
    assert router.orphans == 0


def test_a_second_stop_is_an_orphan_and_not_a_second_run():
    router = Router()
    assert len(feed(router, start("a"), stop("a"), stop("a"))) == 1
    assert router.orphans == 1


def test_the_oldest_of_too_many_open_runs_is_given_up_with_the_reason():
    router = Router(max_open_runs=2)
    (run,) = feed(router, start("a"), start("b"), start("c"))
    assert run.uid == "a"
    assert run.given_up == "no stop document came while 2 later runs were started"
    assert [late.uid for late in feed(router, stop("b"), stop("c"))] == ["b", "c"]


def test_runs_that_are_still_open_can_be_given_up():
    router = Router()
    feed(router, start("a"), descriptor("a"), event("a"), start("b"))
    assert [(run.uid, run.given_up) for run in router.give_up_all("closed")] == [
        ("a", "closed"),
        ("b", "closed"),
    ]
    assert router.give_up_all("closed") == []


def test_a_start_that_comes_again_after_its_run_opens_no_second_run():
    router = Router()
    assert len(feed(router, start("a"), descriptor("a"), event("a"), stop("a"), start("a"))) == 1
    assert router.give_up_all("closed") == []


def test_a_whole_run_that_comes_again_is_a_run_again():
    router = Router()
    documents = (start("a"), descriptor("a"), event("a"), stop("a"))
    assert len(feed(router, *documents, *documents)) == 2


def test_waiting_events_are_bounded(monkeypatch):
    monkeypatch.setattr(router_module, "MAXIMUM_WAITING", 3)
    router = Router()
    feed(router, start("a"), event("x"), event("x", 2), event("y"), event("a"))
    assert router.orphans == 2
    (run,) = feed(router, descriptor("a"), stop("a"))
    assert events_of(run) == {"primary": 1}
    assert router.orphans == 3
