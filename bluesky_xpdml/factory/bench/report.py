"""The table that every benchmark returns, with what was measured and under which conditions."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A table of figures."""

    what: str
    """What was measured, one line."""
    conditions: Mapping[str, Any]
    """Seeds, splits, sizes, versions, machine: plain JSON values."""
    rows: Sequence[Row]
    """One value per row, or a few that belong together; all rows have the same keys."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "what": self.what,
            "conditions": dict(self.conditions),
            "rows": [dict(row) for row in self.rows],
        }

    def as_markdown(self) -> str:
        """Return the report as a Markdown table under its heading."""
        tables = {key: value for key, value in self.conditions.items() if is_table(value)}
        plain = [f"- {key}: {value}" for key, value in self.conditions.items() if key not in tables]
        lines = [f"# {self.what}", "", *plain, "", *_table(self.rows)]
        for key, value in tables.items():
            lines += ["", f"## {key}", "", *_table(value)]
        return "\n".join([*lines, ""])


def is_table(value: object) -> bool:
    """Return whether a condition is a table of its own: a list of rows."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def cell(value: object) -> str:
    """Format one figure: four digits, a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Row]) -> list[str]:
    keys = list(rows[0]) if rows else []
    heading = [_line(keys), "|" + "---|" * len(keys)]
    return heading + [_line([cell(row[key]) for key in keys]) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


PACKAGES = ("numpy", "scikit-learn", "bluesky", "tiled")


def machine() -> Mapping[str, Any]:
    """Return what timings depend on: processor, cores, versions of Python and packages."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def median_ms(action: Callable[[], object], repeats: int) -> float:
    """Return the median duration of an action [ms], after one run that does not count."""
    action()
    durations = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        durations.append(time.perf_counter() - begin)
    return float(np.median(durations)) * 1e3


def timing_row(what: str, ours_ms: float, peer: str | None, peer_ms: float | None) -> dict[str, Any]:
    """Return one row of the table: ours, the peer's, and how many times the peer takes."""
    ratio = None if peer_ms is None else peer_ms / ours_ms
    return {"what": what, "ours_ms": ours_ms, "peer": peer, "peer_ms": peer_ms, "ratio": ratio}
