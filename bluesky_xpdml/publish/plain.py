"""Plain JSON, as metadata must be: numpy scalars, NaN and keys with dots are refused further down."""

import math
from collections.abc import Mapping
from enum import Enum

import numpy as np


def plain(value: object) -> object:
    """Return a value as plain JSON; numbers that are not finite become None, which a mapping leaves out.

    Parameters
    ----------
    value
        Anything that stands in a record.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"e0": np.float64(7112.0), "width": float("nan"), "range": (1, 2), "a.b": True})
    {'e0': 7112.0, 'range': [1, 2], 'a_b': True}
    """
    if isinstance(value, Mapping):
        return plain_mapping(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: object) -> object:
    single = value.value if isinstance(value, Enum) else value
    single = single.item() if isinstance(single, np.generic) else single
    if isinstance(single, float):
        return float(single) if math.isfinite(single) else None
    return single if isinstance(single, bool | int | None) else str(single)


def plain_mapping(mapping: Mapping[str, object]) -> dict[str, object]:
    """Return a mapping as plain JSON, without the entries that hold nothing.

    Event documents forbid `.` and `/` in keys; both become `_`.

    Parameters
    ----------
    mapping
        Anything that stands in a record, by name.

    Examples
    --------
    >>> plain_mapping({"a/b": None, "c": 1})
    {'c': 1}
    """
    entries = ((str(key).replace(".", "_").replace("/", "_"), plain(value)) for key, value in mapping.items())
    return {key: value for key, value in entries if value is not None}
