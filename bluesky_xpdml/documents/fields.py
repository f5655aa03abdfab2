"""Single documents: what can be read of them, whatever is wrong with them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from bluesky_xpdml.documents.lookup import matching


def fault_of_page(page: Mapping[str, Any]) -> str:
    """Return why a page cannot be split into events; an empty string where it can."""
    data, seq_nums = page.get("data"), page.get("seq_num")
    if not isinstance(data, Mapping) or not _is_list(seq_nums):
        return "malformed event pages were left out"
    columns = [seq_nums, *data.values(), *(page[key] for key in ("time", "uid") if page.get(key) is not None)]
    if not all(map(_is_list, columns)) or len({len(values) for values in columns}) != 1:
        return "event pages with rows of unequal length were left out"
    return ""


def events_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that a page holds; `fault_of_page` must have found none."""
    one_a_row = {key: page[key] for key in ("seq_num", "uid", "time") if page.get(key) is not None}
    for i in range(len(page["seq_num"])):
        yield {
            "descriptor": page.get("descriptor"),
            "data": {key: values[i] for key, values in page["data"].items()},
            **{key: values[i] for key, values in one_a_row.items()},
        }


def fitting(patterns: tuple[str, ...], keys: Iterable[object]) -> tuple[str, ...]:
    """Return the keys that any of the patterns fits."""
    texts = [key for key in keys if isinstance(key, str)]
    return tuple(dict.fromkeys(key for pattern in patterns for key in matching((pattern,), texts, "")))


def configured(descriptor: Mapping[str, Any]) -> dict[str, object]:
    """Return the configuration of the devices, single values by key."""
    found: dict[str, object] = {}
    devices = descriptor.get("configuration")
    for device in devices.values() if isinstance(devices, Mapping) else ():
        data = device.get("data") if isinstance(device, Mapping) else None
        found |= single_values(data) if isinstance(data, Mapping) else {}
    return found


def is_table(data_keys: object) -> bool:
    """Return whether the data keys of a descriptor are a mapping of mappings."""
    return isinstance(data_keys, Mapping) and all(isinstance(value, Mapping) for value in data_keys.values())


def shape(data_key: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape that a descriptor gives for a key, as far as it is whole positive numbers."""
    shape = data_key.get("shape")
    sizes = [whole(size) for size in shape] if isinstance(shape, list | tuple) else []
    return tuple(size for size in sizes if size is not None and size > 0)


def _is_list(values: object) -> bool:
    return isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)


def whole(number: object) -> int | None:
    """Return a whole number; None where it is none."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        return None
    return int(number)


def text(value: object) -> str:
    """Return a text; empty where it is none."""
    return value if isinstance(value, str) else ""


def time(value: object) -> float:
    """Return a time [s]; 0 where it is none."""
    return float(value) if isinstance(value, int | float) and -1e15 < value < 1e15 else 0.0


def single_values(data: Mapping[Any, object]) -> dict[str, object]:
    """Return the values that are single numbers or strings: images and spectra would only fill the memory."""
    plain: dict[str, object] = {}
    for key, value in data.items():
        single = _unwrapped(value)
        if isinstance(key, str) and isinstance(single, int | float | np.number | str | type(None)):
            plain[key] = single
    return plain


def _unwrapped(value: object) -> object:
    """Return the one value of an array of size one, as some detectors give their counts."""
    single = value
    while isinstance(single, list | tuple) and len(single) == 1:
        single = single[0]
    if isinstance(single, np.ndarray) and single.size == 1:
        return single.item()
    return single


def hinted_fields(descriptor: Mapping[str, Any]) -> Iterator[str]:
    """Yield the data keys that the devices of a descriptor hint at."""
    hints = descriptor.get("hints")
    for device in hints.values() if isinstance(hints, Mapping) else ():
        fields = device.get("fields") if isinstance(device, Mapping) else None
        for field in fields if isinstance(fields, list | tuple) else ():
            if isinstance(field, str):
                yield field
