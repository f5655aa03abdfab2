"""Runs of a RunEngine go in, predictions come out; whatever goes wrong is said there and nowhere else."""

import logging
import threading

import event_model
import pytest
from bluesky.plans import count, scan
from ophyd.sim import det, motor

from bluesky_xpdml import BundleStore, CallbackPublisher, XanesSettings, XpdmlCallback
from bluesky_xpdml.errors import MissingDataError, PublishError


def send(callback, documents):
    for name, document in documents:
        callback(name, document)
    assert callback.drain(timeout=60)


def uid_of(documents):
    return documents[0][1]["uid"]


def paged(documents):
    events = [document for name, document in documents if name == "event"]
    head = [pair for pair in documents if pair[0] in ("start", "descriptor")]
    return [*head, ("event_page", event_model.pack_event_page(*events)), documents[-1]]


def answers(start):
    return {key: start[key] for key in ("uid", "descriptors", "diagnostics", "quality", "analysis")}


def test_a_live_run_is_predicted(run_engine, callback, derived, iron_scan):
    token = run_engine.subscribe(callback)
    documents = iron_scan()
    run_engine.unsubscribe(token)
    assert callback.drain(timeout=60)
    start = derived.of(uid_of(documents))
    assert start["quality"]["verdict"] in ("good", "suspect")
    state = start["descriptors"]["oxidation_state"]
    assert state["low"] <= state["value"] <= state["high"]
    assert sum(state["probabilities"].values()) == pytest.approx(1.0)
    assert start["analysis"]["settings"]["energy_axis"]["source"] == "reference"
    assert start["models"][0]["name"].startswith("Fe")
    assert start["sample"]["name"] == "LFP-3"
    assert callback.statistics.predicted == 1
    assert callback.statistics.errors == 0


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ({}, "transmission"),
        ({"unit": "keV"}, "transmission"),
        ({"unit": None}, "transmission"),
        ({"descending": True}, "transmission"),
        ({"channels": ("i0", "fluorescence"), "mode": "fluorescence"}, "fluorescence"),
        ({"channels": ("i0", "fluorescence")}, "fluorescence"),
        ({"channels": ("i0", "it", "ir", "fluorescence"), "mode": "fluorescence"}, "fluorescence"),
        ({"channels": ("i0", "it", "ir"), "plan_name": "scan_nd xafs reference"}, "reference"),
    ],
)
def test_detection_modes_units_and_directions(callback, derived, iron_scan, arguments, mode):
    documents = iron_scan(**arguments)
    send(callback, documents)
    reduction = derived.of(uid_of(documents))["analysis"]["settings"]["reduction"]
    assert reduction["mode"] == mode
    edge = 7111.5 if mode == "reference" else 7124.0
    assert reduction["e0"] == pytest.approx(edge + reduction["energy_offset"], abs=3.0)


def test_pages_and_events_give_the_same_answer(store, iron_scan):
    documents = iron_scan()
    found = []
    for form in (documents, paged(documents)):
        starts = []
        with XpdmlCallback(
            CallbackPublisher(lambda _, document, to=starts: to.append(document)), store=store
        ) as one:
            send(one, form)
        found.append(answers(starts[0]))
    assert found[0] == found[1]


def test_replay_is_identical_and_one_run_in_tiled(tiled_server, store, iron_scan):
    from bluesky_xpdml.publish import TiledPublisher, find_predictions

    documents = iron_scan()
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="replay")
    with XpdmlCallback(publisher, store=store) as live:
        send(live, documents)
        (first,) = find_predictions(publisher.container, uid_of(documents))
        send(live, documents)
        (second,) = find_predictions(publisher.container, uid_of(documents))
        assert live.statistics.predicted == 2
    assert first.metadata["start"] == second.metadata["start"]
    assert (publisher.n_written, publisher.n_already_there) == (1, 1)


def test_a_fresh_process_would_give_bit_identical_predictions(store, iron_scan):
    documents = iron_scan()
    found = []
    for _ in range(2):
        starts = []
        with XpdmlCallback(
            CallbackPublisher(lambda _, document, to=starts: to.append(document)),
            store=BundleStore(store.folder),
        ) as one:
            send(one, documents)
        found.append(answers(starts[0]))
    assert found[0] == found[1]


def test_from_uri_is_all_that_a_beamline_writes(run_engine, tiled_server, iron_scan):
    from bluesky_xpdml.publish import connect, find_predictions

    with XpdmlCallback.from_uri(tiled_server.uri, path="live") as callback:
        token = run_engine.subscribe(callback)
        documents = iron_scan()
        run_engine.unsubscribe(token)
        assert callback.drain(timeout=60)
    client = connect(tiled_server.uri)
    (run,) = find_predictions(client["live"], uid_of(documents))
    assert run.metadata["start"]["element"] == "Fe"
    assert run["xanes"].read()["mu_norm"].shape[0] > 100
    client.context.http_client.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"element": "Xx"}, "Xx"),
        ({"element": "Zn"}, "Zn"),
        ({"edge": "L3"}, "L3"),
        ({"channels": ("i0",)}, "found i0"),
        ({"stop_after": 5}, "at least 10 points"),
        ({"stop_after": 0}, "a run without events"),
        ({"stop_after": 30}, "edge"),
        ({"channels": ()}, "no channel at all"),
    ],
)
def test_what_cannot_be_answered_is_published_as_failed_with_the_reason(
    callback, derived, iron_scan, arguments, reason
):
    documents = iron_scan(**arguments)
    send(callback, documents)
    start = derived.of(uid_of(documents))
    assert start["quality"]["verdict"] == "failed"
    assert reason in start["quality"]["reasons"][0]
    assert start["descriptors"] == {}
    assert callback.statistics.failed == 1
    assert callback.statistics.errors == 0


def test_runs_of_other_techniques_leave_no_trace_but_a_count(callback, derived, documents_of):
    send(callback, documents_of(count([det], 3)))
    send(callback, documents_of(scan([det], motor, -1, 1, 12)))
    assert derived.documents == []
    assert (callback.statistics.runs, callback.statistics.ignored) == (2, 2)


def test_derived_runs_are_not_analysed_again(callback, derived, iron_scan):
    send(callback, iron_scan())
    published = list(derived.documents)
    send(callback, published)
    assert derived.documents == published
    assert callback.statistics.ignored == 1


def test_interleaved_runs_are_both_answered(callback, derived, iron_scan):
    one, two = iron_scan(), iron_scan(("i0", "fluorescence"))
    mixed = [pair for pairs in zip(one, two, strict=True) for pair in pairs]
    send(callback, mixed)
    assert {start["raw_uid"] for start in derived.starts} == {uid_of(one), uid_of(two)}


def test_joining_midway_is_counted_and_the_next_run_answered(callback, derived, iron_scan):
    first, second = iron_scan(), iron_scan()
    send(callback, first[20:])
    send(callback, second)
    assert [start["raw_uid"] for start in derived.starts] == [uid_of(second)]
    assert callback.statistics.orphans == len(first) - 20


def test_duplicates_and_disorder_change_nothing_but_are_reported(callback, derived, store, iron_scan):
    documents = iron_scan()
    head, events, stop = documents[:2], documents[2:-1], documents[-1:]
    send(callback, [*head, *reversed(events), *events[:7], *stop])
    start = derived.of(uid_of(documents))
    reasons = " ".join(start["quality"]["reasons"])
    assert "events came out of order" in reasons
    assert "events came twice (7)" in reasons
    plain = []
    with XpdmlCallback(CallbackPublisher(lambda _, document: plain.append(document)), store=store) as other:
        send(other, documents)
    assert plain[0]["descriptors"] == start["descriptors"]


def test_an_aborted_run_is_suspect_and_says_so(callback, derived, iron_scan):
    documents = iron_scan()
    aborted = [*documents[:-1], ("stop", documents[-1][1] | {"exit_status": "abort", "reason": "beam dump"})]
    send(callback, aborted)
    quality = derived.of(uid_of(documents))["quality"]
    assert quality["verdict"] != "good"
    assert "the run ended with exit status abort: beam dump" in quality["reasons"]


def test_settings_reach_the_derived_run(derived, store, iron_scan):
    settings = XanesSettings(energy_offset=0.25, degree=0)
    with XpdmlCallback(CallbackPublisher(derived), store=store, settings=settings) as callback:
        send(callback, iron_scan())
    analysis = derived.starts[0]["analysis"]
    assert analysis["settings"]["reduction"]["energy_offset"] == 0.25
    assert analysis["settings"]["reduction"]["degree"] == 0
    assert analysis["profile"] == "generic"


def test_an_unknown_profile_is_refused_at_once(derived, store):
    with pytest.raises(MissingDataError, match="generic"):
        XpdmlCallback(CallbackPublisher(derived), store=store, profile="nowhere")


class Blocked:
    """A publisher that waits until it is let go."""

    def __init__(self, then):
        self.entered = threading.Event()
        self.release = threading.Event()
        self._then = then

    def publish(self, documents):
        self.entered.set()
        assert self.release.wait(60)
        for name, document in documents:
            self._then(name, document)

    def close(self):
        """Nothing to close."""


def test_a_full_queue_gives_up_whole_runs_and_says_so(derived, store, iron_scan):
    publisher = Blocked(derived)
    runs = [iron_scan() for _ in range(4)]
    with XpdmlCallback(publisher, store=store, capacity=len(runs[1]) + 10) as callback:
        for name, document in runs[0]:
            callback(name, document)
        assert publisher.entered.wait(60)
        for name, document in [pair for run in runs[1:3] for pair in run]:
            callback(name, document)
        publisher.release.set()
        assert callback.drain(timeout=60)
        send(callback, runs[3])
        assert callback.statistics.given_up == 1
    first_reasons = [derived.of(uid_of(run))["quality"]["reasons"][0] for run in runs[2:3]]
    assert first_reasons == ["queue full: the analysis could not keep up with the documents"]
    assert [derived.of(uid_of(run))["quality"]["verdict"] == "failed" for run in runs] == [
        False,
        False,
        True,
        False,
    ]


def test_a_run_that_never_stops_is_published_as_failed_on_close(derived, store, iron_scan):
    documents = iron_scan()
    with XpdmlCallback(CallbackPublisher(derived), store=store) as callback:
        send(callback, documents[:-1])
    reasons = derived.of(uid_of(documents))["quality"]["reasons"]
    assert reasons[0] == "the callback was closed before the run stopped"
    assert callback.statistics.failed == 1


def test_a_server_that_is_away_is_counted_and_logged_and_the_engine_goes_on(
    run_engine, store, iron_scan, caplog
):
    class Away:
        def publish(self, _documents):
            raise PublishError("the server is away")

        def close(self):
            raise PublishError("still away")

    with XpdmlCallback(Away(), store=store) as callback:
        token = run_engine.subscribe(callback)
        with caplog.at_level(logging.ERROR):
            documents = iron_scan()
            assert callback.drain(timeout=60)
        run_engine.unsubscribe(token)
        assert documents[-1][1]["exit_status"] == "success"
    assert (callback.statistics.unpublished, callback.statistics.errors) == (1, 0)
    assert "the server is away" in caplog.text


def test_a_fault_of_the_program_is_a_published_failure_with_a_traceback_in_the_log(
    derived, iron_scan, caplog
):
    class Broken:
        def find(self, *_question):
            raise ZeroDivisionError("no such luck")

    documents = iron_scan()
    with XpdmlCallback(CallbackPublisher(derived), store=Broken()) as callback:
        send(callback, documents)
    start = derived.of(uid_of(documents))
    assert start["quality"]["verdict"] == "failed"
    assert start["quality"]["reasons"] == ["internal error: ZeroDivisionError: no such luck"]
    assert (callback.statistics.failed, callback.statistics.errors) == (1, 1)
    assert "Traceback" in caplog.text


def test_a_publisher_that_breaks_is_given_the_failure_instead(store, iron_scan):
    starts = []

    class Picky:
        def publish(self, documents):
            starts.append(documents[0][1])
            if len(starts) == 1:
                raise TypeError("cannot store this")

        def close(self):
            """Nothing to close."""

    with XpdmlCallback(Picky(), store=store) as callback:
        send(callback, iron_scan())
    assert starts[1]["quality"]["reasons"] == ["internal error: TypeError: cannot store this"]
    assert (callback.statistics.failed, callback.statistics.errors) == (1, 1)


def test_after_closing_documents_are_counted_and_let_go(callback, derived, iron_scan):
    assert callback.close()
    documents = iron_scan()
    for name, document in documents:
        callback(name, document)
    assert callback.drain(timeout=1)
    assert callback.close()
    assert derived.documents == []
    assert callback.statistics.documents == len(documents)
    assert callback.statistics.runs == 0
