"""An explanation as a page of its own: the picture inline, its numbers as tables."""

import html
import io
from collections.abc import Sequence
from pathlib import Path

from bluesky_xpdml.cli.figures_explain import NAMES, UNITS, draw_explanation, parts_of, sentence_of
from bluesky_xpdml.explanation_records import Explanation
from bluesky_xpdml.records import Prediction

HTML = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; color: #1b2a41; margin: 2em auto; max-width: 1100px; }}
svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; }} th, td {{ padding: 0.25em 0.8em; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }} tr {{ border-bottom: 1px solid #d5dae2; }}
</style></head><body>
<h1>{title}</h1>
<p>{sentence}</p>
{picture}
<h2>What adds up to the answers</h2>
{parts}
<h2>What the forests rely on</h2>
<p>Share of the impurity decrease that the features of each region brought at training.</p>
{importances}
</body></html>
"""


def write_page(prediction: Prediction, explanation: Explanation, path: Path) -> None:
    """Write a page that needs no other file.

    Parameters
    ----------
    prediction
        With its explanation and its curve.
    explanation
        The same explanation.
    path
        Where to.
    """
    picture = io.StringIO()
    draw_explanation(prediction, picture, "svg")
    svg = picture.getvalue()
    page = HTML.format(
        title=html.escape(f"{prediction.source}: why {prediction.element} is answered so"),
        sentence=html.escape(_said(prediction)),
        picture=svg[svg.index("<svg") :],
        parts=_table(part_rows(explanation)),
        importances=_table(importance_rows(explanation)),
    )
    path.write_text(page, encoding="utf-8")


def part_rows(explanation: Explanation) -> list[list[str]]:
    """Return what adds up to each answer, a row a part, after a row of headings.

    Parameters
    ----------
    explanation
        Of a prediction.
    """
    parts = {target: parts_of(explanation, target) for target in explanation.attributions}
    names = list(dict.fromkeys(name for found in parts.values() for name in found if name != "answer"))
    ranges = {r.name: (r.low, r.high) for r in explanation.regions if r.low < r.high}
    rows = [["part", f"range [{UNITS[explanation.unit]}]", *_headings(explanation)]]
    for name in [*names, "answer"]:
        low_high = "{:.1f} to {:.1f}".format(*ranges[name]) if name in ranges else ""
        cells = [_number(found.get(name), name, target) for target, found in parts.items()]
        rows.append([name, low_high, *cells])
    return rows


def importance_rows(explanation: Explanation) -> list[list[str]]:
    """Return the impurity importance of each region, a row a region, after a row of headings.

    Parameters
    ----------
    explanation
        Of a prediction.
    """
    rows = [["region", *(NAMES[target] for target in explanation.attributions)]]
    for region in explanation.regions:
        shares = [f"{100.0 * share:.0f} %" for share in region.importance.values()]
        rows.append([region.name, *shares])
    return rows


def _headings(explanation: Explanation) -> list[str]:
    units = {target: UNITS[found.unit] for target, found in explanation.attributions.items()}
    return [f"{NAMES[target]} [{unit}]" if unit else NAMES[target] for target, unit in units.items()]


def _number(value: float | None, name: str, target: str) -> str:
    if value is None:
        return "-"
    sign = "" if name in ("base", "answer") else "+"
    return f"{value:{sign}.{3 if target == 'bond_length' else 2}f}"


def _said(prediction: Prediction) -> str:
    verdict = "; ".join([f"Verdict: {prediction.quality.verdict}", *prediction.quality.reasons])
    return f"{sentence_of(prediction)} {verdict}.".strip()


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for row, tag in zip(rows, ["th", *["td"] * len(rows)], strict=False)
    ]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
