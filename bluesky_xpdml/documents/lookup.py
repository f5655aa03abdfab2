"""Looking things up: dotted paths in start documents, patterns among data keys."""

import re
from collections.abc import Mapping


def look_up(start: Mapping[str, object], paths: tuple[str, ...]) -> object:
    """Return the first value that a start document holds under one of the dotted paths; None where none does.

    Parameters
    ----------
    start
        The start document of the run.
    paths
        Keys; a dot steps into a mapping.

    Examples
    --------
    >>> look_up({"sample": {"name": "LFP-3"}}, ("sample_name", "sample.name"))
    'LFP-3'
    """
    for path in paths:
        value: object = start
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def look_up_text(start: Mapping[str, object], paths: tuple[str, ...]) -> str:
    """Return the first text or whole number under one of the dotted paths; empty where there is none.

    Parameters
    ----------
    start
        The start document of the run.
    paths
        Keys; a dot steps into a mapping.

    Examples
    --------
    >>> look_up_text({"sample": {"uid": 7}}, ("sample", "sample.uid"))
    '7'
    """
    for path in paths:
        value = look_up(start, (path,))
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def matching(patterns: tuple[str, ...], keys: list[str], element: str) -> list[str]:
    """Return the keys that the first fitting pattern fits, in their given order.

    Parameters
    ----------
    patterns
        Regular expressions for whole keys; `{element}` stands for the element, and such a pattern is
        passed over where the element is not known.
    keys
        Data keys of a stream.
    element
        Symbol of the absorbing element; empty where it is not known.

    Examples
    --------
    >>> matching(("{element}[0-9]", "i_?f"), ["Fe1", "Fe2", "If"], "Fe")
    ['Fe1', 'Fe2']
    """
    for pattern in patterns:
        if "{element}" in pattern and not element:
            continue
        expression = re.compile(pattern.replace("{element}", re.escape(element)), re.IGNORECASE)
        found = [key for key in keys if expression.fullmatch(key)]
        if found:
            return found
    return []
