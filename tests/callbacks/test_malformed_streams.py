"""Generated malformed streams: nothing is raised, nothing is silent, nothing goes wrong inside either."""

import copy
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bluesky_xpdml import CallbackPublisher, XpdmlCallback

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**400, -(10**30), math.nan, math.inf, -math.inf, 1e308, 5e-324, 0.0, "", "7112", b"x"]
    ),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.just([[1], [2, 3]]),
)
POSITION = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), POSITION, st.just(None)),
        st.tuples(st.just("repeat"), POSITION, POSITION),
        st.tuples(st.just("swap"), POSITION, POSITION),
        st.tuples(st.just("field"), POSITION, st.tuples(POSITION, JUNK)),
        st.tuples(st.just("value"), POSITION, st.tuples(POSITION, JUNK)),
        st.tuples(st.just("column"), POSITION, JUNK),
        st.tuples(st.just("document"), POSITION, JUNK),
        st.tuples(
            st.just("name"), POSITION, st.sampled_from(["start", "stop", "event", "event_page", "x", "datum"])
        ),
        st.tuples(st.just("cut"), POSITION, st.just(None)),
        st.tuples(st.just("unkey"), POSITION, POSITION),
    ),
    max_size=12,
)
# Starts and descriptors are few among the documents: half of the positions point at the ends of the stream.
ENDS = (0, 1, -1)


def index_of(position, length):
    if position < 0.5:
        return ENDS[int(position * 2 * len(ENDS))] % length
    return int((position - 0.5) * 2 * length)


def changed(documents, changes):
    """Return the stream with every change made to it in turn."""
    stream = copy.deepcopy(documents)
    for kind, position, how in changes:
        if stream:
            i = index_of(position, len(stream))
            CHANGE[kind](stream, i, how, kind)
    return stream


def drop(stream, i, _how, _kind):
    del stream[i]


def cut(stream, i, _how, _kind):
    del stream[i:]


def repeat(stream, i, how, _kind):
    stream.insert(int(how * len(stream)), copy.deepcopy(stream[i]))


def swap(stream, i, how, _kind):
    j = index_of(how, len(stream))
    stream[i], stream[j] = stream[j], stream[i]


def replace_document(stream, i, how, _kind):
    stream[i] = (stream[i][0], how)


def rename(stream, i, how, _kind):
    stream[i] = (how, stream[i][1])


def spoil_document(stream, i, how, kind):
    document = stream[i][1]
    if isinstance(document, dict) and document:
        spoil(document, kind, how)


def spoil_column(stream, i, how, _kind):
    """Give one data key the same junk in every event."""
    rows = [doc["data"] for _, doc in stream if isinstance(doc, dict) and isinstance(doc.get("data"), dict)]
    for row in rows:
        if row:
            row[sorted(row, key=str)[i % len(row)]] = how


CHANGE = {
    "drop": drop,
    "cut": cut,
    "repeat": repeat,
    "swap": swap,
    "document": replace_document,
    "name": rename,
    "field": spoil_document,
    "value": spoil_document,
    "unkey": spoil_document,
    "column": spoil_column,
}


def spoil(document, kind, how):
    """Change one field of a document, or one value of its data, or leave one out."""
    data = document.get("data")
    inner = data if kind == "value" and isinstance(data, dict) and data else document
    position, junk = how if isinstance(how, tuple) else (how, None)
    key = sorted(inner, key=str)[int(position * len(inner))]
    if kind == "unkey":
        del inner[key]
    else:
        inner[key] = junk


@pytest.fixture(scope="module")
def short_scan(iron_scan, iron_columns):
    """Documents of a scan that can be answered, with every third point."""
    documents = iron_scan(("i0", "it", "ir", "fluorescence"))
    events = documents[2:-1]
    kept = [("event", doc | {"seq_num": i + 1}) for i, (_, doc) in enumerate(events[::3])]
    start = documents[0][1] | {"num_points": len(kept)}
    stop = documents[-1][1] | {"num_events": {"primary": len(kept)}}
    return [("start", start), documents[1], *kept, ("stop", stop)]


def published(store, documents):
    """Send a stream through a callback, close it, and return what was published and counted."""
    derived = []
    callback = XpdmlCallback(CallbackPublisher(lambda name, doc: derived.append((name, doc))), store=store)
    for name, document in documents:
        callback(name, document)
    assert callback.close(timeout=60)
    return derived, callback.statistics


def check(derived, statistics):
    assert statistics.errors == 0
    assert statistics.unpublished == 0
    starts = [document for name, document in derived if name == "start"]
    assert len(starts) == statistics.predicted + statistics.failed
    assert statistics.runs == statistics.predicted + statistics.failed + statistics.ignored
    for start in starts:
        assert start["quality"]["verdict"] in ("good", "suspect", "failed")
        if start["quality"]["verdict"] == "failed":
            assert start["quality"]["reasons"]
            assert start["descriptors"] == {}
        for descriptor in start["descriptors"].values():
            assert all(math.isfinite(descriptor[key]) for key in ("value", "low", "high"))


def test_the_stream_that_is_spoiled_is_good_before(short_scan, store):
    derived, statistics = published(store, short_scan)
    check(derived, statistics)
    assert statistics.predicted == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@example(changes=[("column", 0.9, 1e308)])
@example(changes=[("column", 0.0, math.nan)])
@example(changes=[("column", 0.3, 0.0)])
@example(changes=[("field", 0.2, (0.2, 10**400))])
@given(changes=CHANGES)
def test_nothing_is_raised_and_every_run_is_accounted_for(short_scan, store, changes):
    check(*published(store, changed(short_scan, changes)))


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES)
def test_ten_thousand_spoiled_streams(short_scan, store, changes):
    check(*published(store, changed(short_scan, changes)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    documents=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(["start", "descriptor", "event", "event_page", "stop"]), st.text(max_size=5)
            ),
            st.one_of(
                JUNK,
                st.dictionaries(
                    st.sampled_from(
                        [
                            "uid",
                            "run_start",
                            "descriptor",
                            "seq_num",
                            "data",
                            "time",
                            "data_keys",
                            "name",
                            "element",
                        ]
                    ),
                    st.one_of(st.sampled_from(["a", "b"]), JUNK),
                    max_size=6,
                ),
            ),
        ),
        max_size=20,
    )
)
def test_streams_of_junk_do_no_harm(store, documents):
    check(*published(store, documents))
