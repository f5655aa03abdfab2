"""Documents survive the wire, and nothing that comes over it is run."""

import json
import pickle
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.sources.wire import decode, encode

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Trap:
    """Leaves a file where it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@given(st.dictionaries(st.text(), PLAIN, max_size=6))
def test_plain_documents_come_back_as_they_were(document):
    assert decode(encode(document)) == document


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">i2", "|u1", "?", "<u8", "<c16", "<U3", "|S2", "<M8[ns]"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 2, 2)])
def test_arrays_come_back_as_arrays(dtype, shape):
    array = np.zeros(shape, dtype=dtype)
    found = decode(encode({"image": array}))["image"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_numbers_of_numpy_and_what_is_not_finite_survive():
    row = {"i0": np.float32(0.5), "n": np.int16(-3), "on": np.bool_(True), "mu": np.array([np.nan, np.inf])}
    found = decode(encode({"data": row}))["data"]
    assert (found["i0"], found["n"], found["on"]) == (0.5, -3, True)
    np.testing.assert_array_equal(found["mu"], [np.nan, np.inf])


def test_what_others_write_with_msgpack_numpy_is_read():
    records = np.array([(1.0, 7)], dtype=[("timestamp", "<f8"), ("i0", "<i4")])
    written = msgpack.packb(
        {"image": np.arange(6, dtype="<u2").reshape(2, 3), "i0": np.float32(2.0), "apb": records},
        default=msgpack_numpy.encode,
    )
    found = decode(written)
    np.testing.assert_array_equal(found["image"], [[0, 1, 2], [3, 4, 5]])
    assert found["i0"] == 2.0
    assert found["apb"]["i0"].tolist() == [7]


def test_what_we_write_is_read_by_msgpack_numpy():
    found = msgpack.unpackb(encode({"image": np.eye(3)}), object_hook=msgpack_numpy.decode)
    np.testing.assert_array_equal(found["image"], np.eye(3))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (10**30, 1e30),
        (10**400, np.inf),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (Path("/data"), "/data"),
        (np.array(["a", None], dtype=object), ["a", None]),
        ({1: "one"}, {1: "one"}),
        ((1, 2), [1, 2]),
        ("\ud800", "?"),
    ],
)
def test_publishing_never_raises(value, written):
    assert decode(encode({"value": value, "huge": 10**30}))["value"] == written


def test_a_document_that_holds_itself_is_written_down_to_some_depth():
    document = {"uid": "a"}
    document["self"] = document
    assert decode(encode(document))["self"]["self"]["uid"] == "a"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_refused_and_not_run(tmp_path, protocol):
    trap = tmp_path / "sprung"
    for content in (Trap(trap), {"uid": "a", "trap": Trap(trap)}, [Trap(trap)]):
        with pytest.raises(DocumentError):
            decode(pickle.dumps(content, protocol=protocol))
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap), protocol=protocol))  # noqa: S301 - the trap works
    assert trap.exists()


def test_a_pickle_inside_an_array_of_objects_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "sprung"
    array = np.array([Trap(trap)], dtype=object)
    written = msgpack.packb({"data": array}, default=msgpack_numpy.encode)
    with pytest.raises(DocumentError, match="an array of objects is a pickle"):
        decode(written)
    hidden = {b"nd": True, b"type": "|O", b"kind": b"", b"shape": [1], b"data": b"12345678"}
    with pytest.raises(DocumentError, match="an array of the type"):
        decode(msgpack.packb({"data": hidden}))
    assert not trap.exists()


def packed(**changes):
    array = {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [2], b"data": bytes(16)}
    return msgpack.packb({"a": array | {key.encode(): value for key, value in changes.items()}})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\xff" * 40,
        b"{",
        b"[1, 2]",
        b"null",
        json.dumps([{"uid": "a"}]).encode(),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\x91" * 100_000,
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": 1}) + b"more",
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
        packed(shape=[3]),
        packed(shape=[-2]),
        packed(shape=[2**62, 4]),
        packed(shape="ab"),
        packed(shape=5),
        packed(data=None),
        packed(type="<f8,(1000000000,)f8"),
        packed(type=None),
        packed(type=[["a"]]),
        packed(type=[["a", "|O"]]),
    ],
)
def test_garbage_is_refused(data):
    with pytest.raises(DocumentError, match="expected"):
        decode(data)


def assert_document_or_refused(data):
    """Nothing else may come of any bytes: another exception fails the test."""
    found = None
    with suppress(DocumentError):
        found = decode(data)
    assert found is None or isinstance(found, dict)


@given(st.binary(max_size=200))
@example(b"\x80")
@example(b"\xc1")
def test_any_bytes_are_a_document_or_refused(data):
    assert_document_or_refused(data)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_spoiled_documents_are_documents_or_refused(where, junk):
    data = bytearray(
        encode({"uid": "a", "data": {"image": np.eye(4), "i0": np.float64(1.0)}, "more": [1, "x"]})
    )
    where %= len(data)
    data[where : where + len(junk)] = junk
    assert_document_or_refused(bytes(data))
