"""Documents as bytes and back, without ever running received code.

Documents are written as msgpack, with numpy arrays in the layout of msgpack-numpy, which beamlines use for
0MQ and Kafka: an image keeps its size, where JSON would make it several times as long. msgpack-numpy itself
unpickles arrays of objects when it reads, and a pickle is a program: here such arrays and pickled documents
are refused. Documents in JSON are read too.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from bluesky_xpdml.errors import DocumentError

_PICKLED = re.compile(rb"\x80[\x02-\x05]|\(dp|\(lp|c\w+\n")
_DTYPE = re.compile(r"[<>|=]?[biufcSUmM]\d{0,4}(\[\d*[A-Za-zμ]{1,7}\])?")
_MAXIMUM_DEPTH = 50
_LARGEST_INTEGER = 2**64
_SCALARS = (bool, int, float, str, bytes, type(None))


def encode(document: Mapping[str, Any]) -> bytes:
    """Return a document as bytes; a value that msgpack does not have becomes text, and nothing raises.

    A publisher calls this in the thread of the RunEngine, where an error would end the plan.

    Parameters
    ----------
    document
        A Bluesky document; it may hold arrays and scalars of numpy.

    Examples
    --------
    >>> decode(encode({"uid": "a", "data": {"i0": np.float32(0.5), "image": np.eye(2)}}))["data"]["image"]
    array([[1., 0.],
           [0., 1.]])
    """
    import msgpack

    try:
        packed: bytes = msgpack.packb(document, default=_packable)
    except (ValueError, TypeError, OverflowError, RecursionError):
        packed = msgpack.packb(_plain(document, 0))
    return packed


def decode(data: bytes) -> dict[str, Any]:
    r"""Return the document in bytes: msgpack or JSON, distinguished by the first byte.

    Parameters
    ----------
    data
        As received.

    Raises
    ------
    DocumentError
        If it is a pickle, which is not loaded, or no mapping in either format.

    Examples
    --------
    >>> decode(b'{"uid": "a", "time": 0.0}')
    {'uid': 'a', 'time': 0.0}
    >>> decode(b"cos\nsystem\n(S'true'\ntR.")
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.DocumentError: expected msgpack or JSON, found a pickle: it was not opened; ...
    """
    return _document(_value(data))


def encode_pair(name: str, document: Mapping[str, Any]) -> bytes:
    """Return a message of Kafka with a document, as bluesky-kafka writes it; nothing raises.

    Parameters
    ----------
    name, document
        Of a Bluesky document; it may hold arrays and scalars of numpy.

    Examples
    --------
    >>> decode_pair(encode_pair("start", {"uid": "a"}))
    ('start', {'uid': 'a'})
    """
    import msgpack

    # An array of two, and its first element.
    return b"\x92" + bytes(msgpack.packb(str(name))) + encode(document)


def decode_pair(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return name and content of the document in a message of Kafka: `[name, document]`.

    Parameters
    ----------
    data
        As received: msgpack, as bluesky-kafka writes it, or JSON.

    Raises
    ------
    DocumentError
        If it is a pickle, which is not loaded, or no such pair in either format.

    Examples
    --------
    >>> decode_pair(b'["start", {"uid": "a"}]')
    ('start', {'uid': 'a'})
    """
    match _value(data):
        case [str(name), content]:
            return name, _document(content)
        case found:
            raise DocumentError(f"expected a name and a document, found {type(found).__name__}")


def _value(data: bytes) -> object:
    if _PICKLED.match(data):
        raise DocumentError(
            "expected msgpack or JSON, found a pickle: it was not opened; publish with "
            "bluesky_xpdml.sources.zmq.safe_publisher"
        )
    try:
        found: object = json.loads(data) if data[:1] in {b"{", b"["} else _unpacked(data)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise DocumentError(f"expected msgpack or JSON, found neither: {str(error)[:100]}") from error
    return found


def _document(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise DocumentError(f"expected a mapping with names as keys, found {type(value).__name__}")
    return value


def _unpacked(data: bytes) -> object:
    import msgpack

    try:
        return msgpack.unpackb(data, object_hook=_opened, ext_hook=_refuse_extension, strict_map_key=False)
    except msgpack.UnpackException as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _packable(value: object) -> object:
    """Return a value that msgpack does not know as one that it can write."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject and value.dtype.names is None:
        return {
            b"nd": True,
            b"type": value.dtype.str,
            b"kind": b"",
            b"shape": value.shape,
            b"data": value.tobytes(),
        }
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        item = value.item()
        return str(item) if isinstance(item, np.generic) else item
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__array__"):
        # Such as a row of a stored array, which is fetched now.
        return _packable(np.asarray(value))
    return _packable_other(value)


def _packable_other(value: object) -> object:
    if isinstance(value, int):
        return _float(value)
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _plain(value: object, depth: int) -> object:
    """Return a value with everything replaced that cannot be written, at any depth."""
    if depth > _MAXIMUM_DEPTH:
        return str(type(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth + 1) for inner in value]
    if _is_array(value):
        return _packable(value)
    return _plain_scalar(value) if isinstance(value, _SCALARS) else _plain(_packable(value), depth + 1)


def _plain_scalar(value: object) -> object:
    if isinstance(value, int) and not -_LARGEST_INTEGER // 2 <= value < _LARGEST_INTEGER:
        return _float(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _float(value: int) -> float:
    """Return an integer that is too long for msgpack as a float."""
    if abs(value) > 10**300:
        return math.inf if value > 0 else -math.inf
    return float(value)


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and not value.dtype.hasobject and value.dtype.names is None


def _opened(mapping: dict[Any, Any]) -> object:
    """Return the array or scalar that a mapping encodes; any other mapping as it is."""
    if b"nd" not in mapping:
        return mapping
    if mapping.get(b"kind", b"") == b"O":
        raise ValueError("an array of objects is a pickle: it was not opened")
    dtype = _dtype(mapping.get(b"type"))
    data, shape = mapping.get(b"data"), mapping.get(b"shape", ()) if mapping[b"nd"] else ()
    if not isinstance(data, bytes) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("an array without its data or its shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {tuple(shape)} with {len(data)} bytes")
    array = np.frombuffer(data, dtype=dtype).reshape(shape) if data else np.empty(shape, dtype)
    return array if mapping[b"nd"] else array[()]


def _dtype(found: object) -> np.dtype[Any]:
    """Return the type of the numbers of an array: a plain one, or a record of them."""
    if isinstance(found, str) and _DTYPE.fullmatch(found):
        return np.dtype(found)
    if isinstance(found, list) and found:
        fields = [(str(name), _dtype(kind)) for name, kind in found]
        return np.dtype(fields)
    raise ValueError(f"an array of the type {str(found)[:40]!r}")


def _refuse_extension(code: int, _data: bytes) -> NoReturn:
    raise ValueError(f"an extension of msgpack ({code})")
