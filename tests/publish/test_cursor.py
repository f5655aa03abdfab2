"""What came since: each run once, in the order of intake, whatever happens to the container."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import Cursor, Query, TiledPublisher, derived_run
from bluesky_xpdml.publish.cursor import read_on
from bluesky_xpdml.publish.requests import Run
from bluesky_xpdml.records import Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode


def raw(found):
    return [each.raw_uids[0] for each in found]


def test_each_run_comes_once_in_the_order_of_intake(catalog, container, answer, put):
    put(container, answer("a"), 20.0)
    found, cursor = catalog.since(Cursor())
    assert raw(found) == ["a"]
    put(container, answer("late"), 1.0)
    put(container, answer("b"), 30.0)
    cursor = Cursor.from_text(cursor.as_text())
    found, cursor = catalog.since(cursor, limit=1)
    assert raw(found) == ["late"]
    found, cursor = catalog.since(cursor)
    assert raw(found) == ["b"]
    assert catalog.since(cursor) == ([], cursor)


def test_a_half_written_run_comes_once_though_it_is_written_anew(catalog, container, answer, put):
    put(container, answer("a"), 1.0)
    uid = put(container, answer("half"), 2.0, complete=False)
    found, cursor = catalog.since(Cursor())
    assert raw(found) == ["a", "half"]
    assert cursor.pending == (uid,)
    put(container, answer("b"), 3.0)
    found, cursor = catalog.since(cursor)
    assert raw(found) == ["b"]
    container.delete_contents([uid])
    put(container, answer("c"), 4.0)
    put(container, answer("half"), 5.0)
    found, cursor = catalog.since(cursor)
    assert raw(found) == ["c"]
    assert cursor.pending == ()


def test_a_query_passes_over_the_rest(catalog, container, answer, put):
    put(container, answer("a", element="Ni"), 1.0)
    put(
        container,
        answer("b", quality=Quality().failed(Reason("no edge", ReasonCode.EDGE_NOT_COVERED)), descriptors={}),
        2.0,
    )
    found, cursor = catalog.since(Cursor(), Query(element="Fe"))
    assert raw(found) == ["b"]
    assert catalog.since(cursor, Query(element="Ni"))[0] == []


def test_the_end_is_behind_what_is_there(catalog, container, answer, put):
    cursor = catalog.end()
    put(container, answer("a"), 1.0)
    found, behind = catalog.since(cursor)
    assert raw(found) == ["a"]
    assert catalog.end() == behind


def test_an_emptied_container_is_told(catalog, container, answer, put):
    for number in range(17):
        put(container, answer(f"raw-{number}"), float(number))
    cursor = catalog.end()
    container.delete_contents()
    put(container, answer("new"), 30.0)
    with pytest.raises(PublishError, match="begin with a new cursor"):
        catalog.since(cursor)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"position": 1}', '{"position": "x", "anchors": [], "pending": []}']
)
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(PublishError, match="cursor"):
        Cursor.from_text(text)


class Server:
    """A container in memory, as requests see it: runs in the order of intake, and somebody who reads them."""

    address = "memory"

    def __init__(self):
        self.runs, self.numbers = {}, count()
        self.cursor, self.met = Cursor(), []

    def pages(self, queries=(), *, offset=0, size=7):
        wanted = [key for query in queries for key in query.keys]
        rows = [
            Run(key=key, start={}, complete=complete)
            for key, complete in self.runs.items()
            if not queries or key in wanted
        ][offset:]
        yield rows[:size]
        for begin in range(size, len(rows), size):
            yield rows[begin : begin + size]

    def whole(self, _which):
        self.runs[f"run-{next(self.numbers)}"] = True

    def half(self, _which):
        self.runs[f"run-{next(self.numbers)}"] = False

    def finish(self, which):
        for key in self.halves()[which : which + 1]:
            self.runs[key] = True

    def anew(self, which):
        for key in self.halves()[which : which + 1]:
            del self.runs[key]
            self.runs[key] = True

    def read(self, which):
        for run, behind in read_on(self, self.cursor):
            self.cursor = Cursor.from_text(behind.as_text())
            self.met += [run.key] if run else []
            which -= run is not None
            if not which:
                return

    def halves(self):
        return [key for key, complete in self.runs.items() if not complete]


STEPS = st.tuples(st.sampled_from(["whole", "whole", "half", "finish", "anew", "read"]), st.integers(0, 8))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=80))
def test_no_run_is_lost_or_doubled_whatever_writers_do(steps):
    server = Server()
    for what, which in [*steps, ("read", -1)]:
        getattr(server, what)(which)
    assert sorted(server.met) == sorted(server.runs)


def test_runs_of_a_publisher_are_followed(catalog, tiled_server, answer):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="/".join(catalog.container.path_parts))
    cursor = catalog.end()
    publisher.publish(derived_run(answer("raw")))
    found, _ = catalog.since(cursor)
    publisher.close()
    assert raw(found) == ["raw"]
