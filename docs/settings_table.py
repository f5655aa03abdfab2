"""The table of all keys of a settings file, read from the records that hold their values."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from bluesky_xpdml.settings import KEYS, Settings
from bluesky_xpdml.settings_keys import Key


@dataclass(frozen=True)
class Row:
    """One key as the reference shows it."""

    key: str
    value: str
    default: str
    description: str


def rows() -> Iterator[Row]:
    """Yield a row for each key, in the order of the records."""
    for name, key in KEYS.items():
        record = _owner(key.path)
        field = key.path[-1]
        # Repeats are merged only if this time is set; the record's default serves Python code.
        default = None if name == "repeats.within" else getattr(record(), field)
        yield Row(name, _value(key), _default(default), _field_texts(record).get(field, ""))


def markdown() -> str:
    """Return one table for each section of the file."""
    sections: dict[str, list[Row]] = {}
    for row in rows():
        sections.setdefault(row.key.rpartition(".")[0], []).append(row)
    lines = []
    for section, found in sorted(sections.items()):
        lines += [f"### {f'`[{section}]`' if section else 'Outside of all sections'}", ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{row.key}` | {row.value} | {row.default} | {row.description} |" for row in found]
        lines.append("")
    return "\n".join(lines)


def _owner(path: tuple[str, ...]) -> Any:
    """Return the class of the record whose field a key sets."""
    record: Any = Settings
    for name in path[:-1]:
        hint = get_type_hints(record)[name]
        record = next(option for option in (get_args(hint) or (hint,)) if is_dataclass(option))
    return record


def _field_texts(record: Any) -> dict[str, str]:
    """Return the docstrings under the fields of a class, by field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for line, after in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr):
            text = ast.literal_eval(after.value)
            texts[ast.unparse(line.target)] = " ".join(text.split()).replace("|", "\\|")
    return texts


def _value(key: Key) -> str:
    """Return what kind of value a key takes."""
    if key.read is not None:
        return str(key.read.__doc__).removeprefix("Return ").rstrip(".")
    return _kind(key.annotation)


SIMPLE = {float: "number", int: "whole number", str: "text", bool: "`true` or `false`"}


def _kind(annotation: Any) -> str:
    """Return the type of a field in words."""
    parts = [each for each in get_args(annotation) if each is not type(None)]
    origin = get_origin(annotation)
    if annotation in SIMPLE:
        kind = SIMPLE[annotation]
    elif origin is Literal or (inspect.isclass(annotation) and issubclass(annotation, StrEnum)):
        kind = ", ".join(f'`"{each}"`' for each in (parts or annotation))
    elif is_dataclass(annotation):
        kind = f"table with {', '.join(f'`{each.name}`' for each in fields(annotation))}"
    elif origin is tuple:
        kind = "list of texts" if str in parts else f"list of {len(parts)} numbers"
    elif origin is Mapping:
        kind = f"table with a {_kind(parts[1])} for each name"
    else:
        kind = " or ".join(_kind(each) for each in parts)
    return kind


def _default(value: object) -> str:
    """Return a default as the file would hold it."""
    if is_dataclass(value):
        inner = ", ".join(f"{each.name} = {getattr(value, each.name)}" for each in fields(value))
        return f"`{{ {inner} }}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Path):
        return "the bundles of the package"
    if value is None or value in ("", (), {}):
        return "none"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"
