"""What every benchmark gives: a table that says what was measured and under which conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A table of figures."""

    what: str
    """What was measured, one line."""
    conditions: Mapping[str, Any]
    """Seeds, splits, sizes, versions, machine: plain JSON values."""
    rows: Sequence[Row]
    """One figure, or a few that belong together, a row; all rows have the same keys."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "what": self.what,
            "conditions": dict(self.conditions),
            "rows": [dict(row) for row in self.rows],
        }

    def as_markdown(self) -> str:
        """Return the report as a Markdown table under its heading.

        Examples
        --------
        >>> rows = [{"what": "a", "ms": 1.5}]
        >>> print(Report(what="speed", conditions={"cores": 2}, rows=rows).as_markdown())
        # speed
        <BLANKLINE>
        - cores: 2
        <BLANKLINE>
        | what | ms |
        |---|---|
        | a | 1.5 |
        <BLANKLINE>
        """
        keys = list(self.rows[0]) if self.rows else []
        lines = [f"# {self.what}", "", *(f"- {key}: {value}" for key, value in self.conditions.items()), ""]
        lines += [_line(keys), "|" + "---|" * len(keys)]
        lines += [_line([_cell(row[key]) for key in keys]) for row in self.rows]
        return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
