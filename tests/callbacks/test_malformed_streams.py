"""Generated malformed streams: nothing is raised, nothing is silent, nothing goes wrong inside either."""

import copy
import math

import numpy as np
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
TABLES = ("nan", "inf", "huge", "zero", "negative", "empty", "one", "short", "text", "rows", "number", "none")
"""What becomes of a table of a continuous scan."""
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
        st.tuples(st.just("table"), POSITION, st.tuples(POSITION, st.sampled_from(TABLES))),
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


def spoil_table(stream, i, how, _kind):
    """Spoil the table nearest to a position; streams without tables stay as they are."""
    pages = [doc for name, doc in stream if name == "event_page" and isinstance(doc, dict)]
    tables = [
        (page["data"], key)
        for page in pages
        if isinstance(page.get("data"), dict)
        for key, values in page["data"].items()
        if isinstance(values, list) and values and isinstance(values[0], np.ndarray)
    ]
    if tables:
        data, key = tables[i % len(tables)]
        data[key] = [spoiled(data[key][0], *how)]


def spoiled(table, position, what):
    """Return a table with one fault."""
    size = int(position * len(table)) if len(table) else 0
    faults = {"nan": math.nan, "inf": math.inf, "huge": 1e300, "zero": 0.0, "negative": -1e9}
    if what in faults and table.dtype.names and len(table):
        plain = np.array(table.tolist(), dtype=float)
        plain[size:, int(position * plain.shape[1])] = faults[what]
        return plain
    other = {
        "empty": table[:0],
        "one": table[:1],
        "short": table[:size],
        "text": np.full(3, "counts"),
        "rows": [list(row) for row in table[:20].tolist()] if table.dtype.names else [[1], [2, 3]],
        "number": 5,
        "none": None,
    }
    return other.get(what, table)


CHANGE = {
    "table": spoil_table,
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


class Runs(dict):
    """Document streams by name, which no report of a failure repeats."""

    def __repr__(self):
        return f"<runs of {', '.join(self)}>"


@pytest.fixture(scope="module")
def short_runs(conventions):
    """Documents of short scans that can be answered, as three beamlines write them."""
    known = conventions.Known()
    energy = known.grid()[::3]
    runs = {
        "bmm": conventions.bmm_documents(known, mode="fluorescence", energy=energy),
        "iss": conventions.iss_documents(known, n_samples=1_000),
        "qas": conventions.qas_documents(known, n_samples=2_000, triggered=True),
    }
    return Runs(runs)


CONVENTIONS = ("bmm", "iss", "qas")


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


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_runs_of_beamlines_that_are_spoiled_are_good_before(short_runs, store, name):
    derived, statistics = published(store, short_runs[name])
    check(derived, statistics)
    assert statistics.predicted == 1


@pytest.mark.parametrize("name", CONVENTIONS)
@settings(max_examples=240, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@example(changes=[("table", 0.0, (0.0, "nan"))])
@example(changes=[("table", 0.5, (0.3, "huge"))])
@example(changes=[("table", 0.5, (0.3, "rows")), ("table", 0.9, (0.3, "short"))])
@given(changes=CHANGES)
def test_the_runs_of_beamlines_are_all_accounted_for(short_runs, store, name, changes):
    check(*published(store, changed(short_runs[name], changes)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVENTIONS)
@settings(max_examples=3_400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES)
def test_ten_thousand_spoiled_runs_of_beamlines(short_runs, store, name, changes):
    check(*published(store, changed(short_runs[name], changes)))


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
