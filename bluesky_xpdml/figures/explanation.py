"""Pictures of explanations: the curve with its regions, what each part adds, and what the models rely on."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from bluesky_xpdml.errors import needs_extra
from bluesky_xpdml.figures.curves import ACCENT, INK, LABELS, MUTED, STYLE, curve_of
from bluesky_xpdml.models.explain import DISTINGUISHABLE
from bluesky_xpdml.records import Attribution, Explanation, FloatArray, Prediction
from bluesky_xpdml.vocabulary import Descriptor, Technique

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = ("#f3ead7", "#e3ebf3", "#f6dfd8", "#e8efe0")
"""Background of the regions, in their order."""
ENDS = ("base", "answer")
"""Parts of an answer that are totals, not differences."""


def draw_explanation(prediction: Prediction, target: Path | IO[str], kind: str) -> None:
    """Draw a curve, its explanation and the importances into one picture: `png`, `svg` or `pdf`."""
    with needs_extra("demo"):
        from matplotlib import rc_context

    with rc_context(STYLE | {"svg.hashsalt": "bluesky_xpdml"}):
        # Without a date, the same answer gives the same file.
        _figure(prediction).savefig(target, format=kind, metadata={"Date": None} if kind == "svg" else None)


def sentence_of(prediction: Prediction) -> str:
    """Return in a sentence how far an oxidation state follows the edge position; empty if that is unknown."""
    diagnostics, explanation = prediction.diagnostics, prediction.explanation
    if explanation is None or "edge_curve_oxidation_state" not in diagnostics:
        return ""
    by_edge, by_shape = diagnostics["edge_curve_oxidation_state"], diagnostics["forest_oxidation_state"]
    both = f"Oxidation state by the edge position alone {by_edge:.2f}, by the shape alone {by_shape:.2f}"
    if explanation.edge_share is not None:
        return f"{both}: the answer follows the edge position by {100.0 * explanation.edge_share:.0f} %."
    agree = abs(by_edge - by_shape) < DISTINGUISHABLE
    return f"{both}: {'they agree, either leads here' if agree else 'the answer is no mixture of both'}."


def parts_of(explanation: Explanation, target: Descriptor) -> dict[str, float]:
    """Return the parts that add up to an answer, in the order in which they are shown [its unit]."""
    found = explanation.attributions[target]
    by_region = {region.name: region.attribution[target] for region in explanation.regions}
    return {"base": found.base, **by_region, **found.others, "answer": found.answer}


def _figure(prediction: Prediction) -> "Figure":
    with needs_extra("demo"):
        from matplotlib.figure import Figure

    explanation = prediction.explanation
    if explanation is None:
        raise ValueError("expected a prediction with its explanation, found none: explain it first")
    targets = explanation.attributions
    figure = Figure(figsize=(4.0 * len(targets) + 0.4, 9.6), layout="constrained")
    panels = figure.subplots(4, len(targets), squeeze=False, height_ratios=[1.2, 1.0, 1.0, 1.1])
    for column, (target, attribution) in enumerate(targets.items()):
        curve, added, relied, sums = panels[:, column]
        _draw_curve(curve, prediction, explanation)
        curve.set_title(_title(prediction, target))
        _draw_attribution(added, explanation, attribution, target)
        _draw_importance(relied, explanation, attribution)
        for axes in (curve, added, relied):
            axes.set_xlim(*_window(explanation))
            axes.set_xlabel(LABELS[_technique(explanation)][0])
        _draw_parts(sums, explanation, target)
    sentence = sentence_of(prediction)
    title = f"{prediction.source}, {prediction.element} ({prediction.quality.verdict})"
    figure.suptitle(f"{title}. {sentence}" if sentence else title, fontsize=8.0, color=INK)
    return figure


def _title(prediction: Prediction, target: Descriptor) -> str:
    found = prediction.descriptors[target]
    return f"{target.label} {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) {target.symbol}".rstrip()


def _technique(explanation: Explanation) -> Technique:
    return Technique.PDF if explanation.unit == "angstrom" else Technique.XANES


def _window(explanation: Explanation) -> tuple[float, float]:
    low, high = float(explanation.grid.min()), float(explanation.grid.max())
    return (low - 5.0, high + 3.0) if _technique(explanation) is Technique.XANES else (low - 0.3, high + 0.2)


def _shade(axes: "Axes", explanation: Explanation) -> None:
    low, high = _window(explanation)
    last = len(explanation.regions) - 1
    for place, region in enumerate(explanation.regions):
        start = low if place == 0 else max(region.low, low)
        stop = high if place == last else min(region.high, high)
        if start < stop:
            axes.axvspan(start, stop, color=SHADES[place], linewidth=0.0, zorder=0)


def _draw_curve(axes: "Axes", prediction: Prediction, explanation: Explanation) -> None:
    low, high = _window(explanation)
    curve = curve_of(prediction)
    if curve is None:
        raise ValueError("expected a prediction with its curve, found none: read it from its file again")
    _, x, y = curve
    shown = (x >= low) & (x <= high)
    _shade(axes, explanation)
    axes.plot(x[shown], y[shown], color=INK, linewidth=1.1)
    axes.set_ylabel(LABELS[_technique(explanation)][1])
    for region in explanation.regions:
        start, stop = max(region.low, low), min(region.high, high)
        if stop - start > 0.06 * (high - low):
            axes.annotate(
                region.name.replace(" ", "\n"),
                (0.5 * (start + stop), 0.98),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="top",
                fontsize=6.5,
                color=MUTED,
            )
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.18 * (top - bottom))


def _blocks(explanation: Explanation) -> dict[str, slice]:
    """Return the features of the curve's points, and those computed from many points, by label."""
    n = int(np.unique(explanation.grid).size)
    if _technique(explanation) is Technique.XANES:
        return {"µ(E)": slice(0, n), "running integral up to E": slice(n, None)}
    points = sum(name.startswith("G(") for name in explanation.features)
    return {"G(r)": slice(0, points), "shape of the first shell": slice(points, None)}


def _bars(axes: "Axes", explanation: Explanation, values: FloatArray) -> None:
    """Draw one bar per feature; those of computed features beside those of the curve, or as one sum."""
    grid = explanation.grid
    step = float(np.median(np.diff(np.unique(grid))))
    blocks = _blocks(explanation)
    for place, (label, chosen) in enumerate(blocks.items()):
        x, height = grid[chosen], values[chosen]
        if np.unique(x).size == 1:
            x, height = x[:1], np.array([height.sum()])
        offset = (place - 0.5) * 0.45 * step
        axes.bar(x + offset, height, 0.45 * step, color=(INK, ACCENT)[place], label=label, linewidth=0.0)
    axes.axhline(0.0, color=MUTED, linewidth=0.5)


def _draw_attribution(
    axes: "Axes", explanation: Explanation, attribution: Attribution, target: Descriptor
) -> None:
    _shade(axes, explanation)
    _bars(axes, explanation, attribution.features)
    axes.set_ylabel(f"adds to {target.heading}")
    axes.margins(y=0.25)
    axes.legend(frameon=False, fontsize=6.5, loc="upper left", ncols=2)


def _draw_importance(axes: "Axes", explanation: Explanation, attribution: Attribution) -> None:
    _shade(axes, explanation)
    _bars(axes, explanation, 100.0 * attribution.importance)
    axes.set_ylabel("importance by impurity [%]")
    lost = axes.twinx()
    first, second = _blocks(explanation).values()
    lost.plot(explanation.grid[first], 100.0 * attribution.permutation[first], color=MUTED, linewidth=1.0)
    if np.unique(explanation.grid[second]).size == 1:
        # The shape of the first shell has one place and was shuffled as one.
        lost.plot(explanation.grid[second][:1], 100.0 * attribution.permutation[second][:1], "x", color=MUTED)
    lost.spines["right"].set_visible(True)
    lost.set_ylabel("lost on shuffling, line [% points]", color=MUTED)


def _draw_parts(axes: "Axes", explanation: Explanation, target: Descriptor) -> None:
    """Draw how the parts lead from the base to the answer."""
    parts = parts_of(explanation, target)
    labels = list(parts)
    steps = np.array(list(parts.values()))[1:-1]
    reached = parts["base"] + np.concatenate([[0.0], np.cumsum(steps)])
    place = np.arange(len(labels))
    axes.barh(place[1:-1], steps, left=reached[:-1], color=np.where(steps < 0.0, INK, ACCENT), height=0.6)
    axes.plot([parts["base"], parts["answer"]], [0, place[-1]], "D", color=INK, markersize=4.0)
    for row, (name, value) in enumerate(parts.items()):
        end = value if name in ENDS else max(reached[row - 1], reached[row])
        axes.annotate(
            _number(value, name, target),
            (end, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            color=INK,
        )
    axes.set_yticks(place, [label.replace(" in the", "\nin the") for label in labels], fontsize=6.5)
    axes.invert_yaxis()
    axes.use_sticky_edges = False
    axes.margins(x=0.2)
    axes.set_xlabel(target.heading)


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
    """Write an explanation as an HTML page that needs no other file."""
    picture = io.StringIO()
    draw_explanation(prediction, picture, "svg")
    svg = picture.getvalue()
    page = HTML.format(
        title=html.escape(f"{prediction.source}: why {prediction.element} is answered so"),
        sentence=html.escape(_summary(prediction)),
        picture=svg[svg.index("<svg") :],
        parts=_table(part_rows(explanation)),
        importances=_table(importance_rows(explanation)),
    )
    path.write_text(page, encoding="utf-8")


def part_rows(explanation: Explanation) -> list[list[str]]:
    """Return the parts that add up to each answer, one row per part, after a row of headings."""
    parts = {target: parts_of(explanation, target) for target in explanation.attributions}
    names = list(dict.fromkeys(name for found in parts.values() for name in found if name != "answer"))
    ranges = {r.name: f"{r.low:.1f} to {r.high:.1f}" for r in explanation.regions if r.low < r.high}
    unit = "Å" if _technique(explanation) is Technique.PDF else "eV"
    rows = [["part", f"range [{unit}]", *(target.heading for target in parts)]]
    for name in [*names, "answer"]:
        cells = [_number(found.get(name), name, target) for target, found in parts.items()]
        rows.append([name, ranges.get(name, ""), *cells])
    return rows


def importance_rows(explanation: Explanation) -> list[list[str]]:
    """Return the impurity importance of each region, one row per region, after a row of headings."""
    rows = [["region", *(target.label for target in explanation.attributions)]]
    for region in explanation.regions:
        shares = [f"{100.0 * share:.0f} %" for share in region.importance.values()]
        rows.append([region.name, *shares])
    return rows


def _number(value: float | None, name: str, target: Descriptor) -> str:
    if value is None:
        return "-"
    sign = "" if name in ENDS else "+"
    return f"{value:{sign}.{3 if target is Descriptor.BOND_LENGTH else 2}f}"


def _summary(prediction: Prediction) -> str:
    verdict = "; ".join([f"Verdict: {prediction.quality.verdict}", *prediction.quality.reasons])
    return f"{sentence_of(prediction)} {verdict}.".strip()


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for row, tag in zip(rows, ["th", *["td"] * len(rows)], strict=False)
    ]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
