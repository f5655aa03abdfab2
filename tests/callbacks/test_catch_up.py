"""Runs of a catalog that were missed are found at the next start, each once."""

import time
from contextlib import contextmanager
from functools import partial
from threading import Event

import pytest

from bluesky_xpdml import XpdmlCallback
from bluesky_xpdml.callbacks.catch_up import CatchUp, cursor_file
from bluesky_xpdml.callbacks.inbox import Close, Inbox, Sync
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.publish import TiledPublisher, open_existing

PATIENCE = 240.0


class Catalog:
    """A container of raw runs, and one of predictions, on a server."""

    def __init__(self, server, name):
        self.uri, self.raw_path, self.path = server.uri, f"{name}/raw", f"{name}/derived"
        self._publisher = TiledPublisher.from_uri(self.uri, path=self.raw_path)

    def store(self, *uids, stops=True, when=None):
        for uid in uids:
            documents = list(run_documents(uid, time.time() if when is None else when))
            self._publisher.publish(documents if stops else documents[:-1])

    def open(self, path):
        return partial(open_existing, self.uri, path=path)

    def close(self):
        self._publisher.close()


@pytest.fixture
def catalog(tiled_server, request):
    opened = Catalog(tiled_server, request.node.name)
    yield opened
    opened.close()


@pytest.fixture
def compare(catalog, tmp_path):
    """Return a context: a journal with some documents, to which missed runs of the catalog are appended."""

    @contextmanager
    def compared(*documents, raw=None, **options):
        inbox = Inbox(10_000)
        journal = Journal(inbox, tmp_path, outlived=True)
        for name, document in documents:
            inbox.offer(name, document)
        written = Sync(Event())
        inbox.mark(written)
        assert written.reached.wait(PATIENCE)
        catching_up = CatchUp(
            raw=raw or catalog.open(catalog.raw_path),
            derived=catalog.open(catalog.path),
            journal=journal,
            file=cursor_file(tmp_path, catalog.raw_path),
            **options,
        )
        try:
            yield catching_up, journal
        finally:
            catching_up.close()
            inbox.mark(Close(keep_open=True))
            for run in tuple(journal._runs):
                journal.settle(run, keep=False)
            journal.close()

    return compared


def found(catching_up):
    assert catching_up.finished.wait(PATIENCE)
    return catching_up.n_found


def test_the_first_start_takes_nothing_old_and_the_next_one_what_was_missed(catalog, compare):
    catalog.store("old-run")
    with compare() as (first, journal):
        assert found(first) == 0
    catalog.store("run-a", "run-b")
    with compare() as (second, journal):
        assert found(second) == 2
        assert journal.backlog == 2
        assert journal.knows("run-a")
    with compare() as (third, _):
        assert found(third) == 0


def test_what_was_missed_by_a_first_start_that_died_at_once_is_found(catalog, compare):
    catalog.store("old-run", when=time.time() - 3600.0)

    def away():
        raise PublishError("the server is away")

    with compare(raw=away) as (first, _):
        assert not first.finished.wait(0.2)
    catalog.store("run-a")
    with compare() as (second, journal):
        assert found(second) == 1
        assert journal.knows("run-a")


def test_a_run_that_is_here_whole_is_left_and_one_that_lost_its_stop_is_replaced(
    catalog, compare, monkeypatch
):
    monkeypatch.setattr("bluesky_xpdml.callbacks.catch_up.GRACE", 0.1)
    catalog.store("old-run")
    with compare() as (first, _):
        found(first)
    catalog.store("whole-run", "half-run")
    whole, half = (list(run_documents(uid, time.time())) for uid in ("whole-run", "half-run"))
    with compare(*whole, *half[:20]) as (second, journal):
        assert found(second) == 1
        assert journal.backlog == 2
        assert journal.gaps.unstopped == 0


def test_a_run_that_goes_on_is_compared_again(catalog, compare):
    catalog.store("old-run")
    with compare() as (first, _):
        found(first)
    catalog.store("going-run", stops=False)
    catalog.store("run-a")
    with compare() as (second, _):
        assert found(second) == 1
    catalog.store("going-run")
    with compare() as (third, journal):
        # `run-a` has no answer yet, and stands behind the one that went on.
        assert found(third) == 2
        assert journal.knows("going-run")


def test_only_runs_after_a_moment_are_compared_if_asked_for(catalog, compare):
    catalog.store("early-run", when=1e9)
    catalog.store("late-run", when=2e9)
    with compare(after=1.5e9) as (catching_up, journal):
        assert found(catching_up) == 1
        assert journal.knows("late-run")


def test_who_asks_is_told_at_once_what_only_people_can_mend(catalog, compare):
    missing = pytest.raises(PublishError, match=r"expected a container 'nowhere' .* check the path")
    with compare(raw=catalog.open("nowhere"), after=0.0) as (catching_up, _), missing:
        catching_up.wait(PATIENCE)


def test_a_callback_answers_what_it_missed_once(catalog, tmp_path):
    def answers():
        with XpdmlCallback.from_uri(
            catalog.uri, path=catalog.path, raw_path=catalog.raw_path, outbox=tmp_path
        ) as callback:
            assert callback._catching_up.finished.wait(PATIENCE)
            assert callback.drain(PATIENCE)
            return callback.statistics.predicted

    catalog.store("old-run")
    assert answers() == 0
    catalog.store("run-a", "run-b")
    assert answers() == 2
    assert answers() == 0
