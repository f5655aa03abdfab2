"""Pictures (PNG, SVG or PDF) of measured curves and predictions, in one style, with units on every axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import needs_extra
from bluesky_xpdml.models.repeats import RepeatedPrediction
from bluesky_xpdml.records import DemoMeasurement, FloatArray, PairDistribution, Prediction, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Descriptor, Technique

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, MUTED = "#1b2a41", "#c8553d", "#8d99ae"
STYLE: Any = {
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 8.0,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.dpi": 150,
}
WINDOW = (-15.0, 75.0)
"""Range of spectra that is drawn [eV above the metal foil]."""
REPEATS_WINDOW = (-20.0, 60.0)
"""Range of the mean spectrum that is drawn [eV from the edge]."""
LABELS = {
    Technique.XANES: ("energy above the metal foil [eV]", "flattened µ(E) [edge steps]"),
    Technique.PDF: ("r [Å]", "G(r) [1/Å²]"),
}
"""Labels of the axes, by technique."""
MARKS = {Technique.XANES: (ACCENT, "o"), Technique.PDF: (INK, "s")}
LONGEST_DISTANCE = 15.0
"""End of the range of G(r) that is drawn [angstrom]."""
COLUMNS = 5
NORMAL_90 = 1.645
"""Half width of the 90 % interval of a normal distribution [standard deviations]."""


def draw_repeats(answers: Sequence[RepeatedPrediction], path: Path) -> None:
    """Draw the mean spectrum with its 90 % band, and the answer with its interval against the repeats."""
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(8.0, 2.8), layout="constrained")
        mean, interval = figure.subplots(1, 2)
        _draw_mean_spectrum(mean, answers[-1])
        _draw_interval_against_repeats(interval, answers)
        figure.savefig(path)


def _draw_mean_spectrum(axes: "Axes", answer: RepeatedPrediction) -> None:
    xanes = answer.merged.xanes
    x = xanes.energy - xanes.e0
    shown = (x > REPEATS_WINDOW[0]) & (x < REPEATS_WINDOW[1])
    energy, norm = xanes.energy[shown], xanes.norm[shown]
    if xanes.mu_variance is not None:
        half_width = NORMAL_90 * np.sqrt(xanes.mu_variance[shown]) / xanes.edge_step
        axes.fill_between(
            energy, norm - half_width, norm + half_width, color=ACCENT, alpha=0.3, linewidth=0.0
        )
    axes.plot(energy, norm, color=INK, linewidth=1.0)
    axes.set_xlabel("energy [eV]")
    axes.set_ylabel("normalised µ(E) [edge steps]")
    axes.set_title(f"mean of {answer.progress.n_kept} repeats, 90 %")


def _draw_interval_against_repeats(axes: "Axes", answers: Sequence[RepeatedPrediction]) -> None:
    number = np.array([answer.progress.n_repeats for answer in answers])
    states = [answer.prediction.descriptors[Descriptor.OXIDATION_STATE] for answer in answers]
    value, low, high = (np.array([getattr(one, key) for one in states]) for key in ("value", "low", "high"))
    half_width = np.array([answer.progress.model_width for answer in answers]) / 2.0
    axes.fill_between(
        number,
        value - half_width,
        value + half_width,
        color=MUTED,
        alpha=0.3,
        linewidth=0.0,
        label="without noise",
    )
    _error_bars(axes, number, value, np.stack([low, high]), color=ACCENT, label="answer, 90 %")
    axes.set_xlabel("repeats")
    axes.set_ylabel(Descriptor.OXIDATION_STATE.heading)
    axes.set_xticks(number[:: max(number.size // 8, 1)])
    axes.legend(frameon=False)


def _error_bars(
    axes: "Axes",
    x: NDArray[Any],
    value: FloatArray,
    interval: FloatArray,
    *,
    color: str,
    label: str,
    **style: Any,
) -> None:
    """Draw values with their intervals, (2, n)."""
    errors = np.abs(interval - value)
    merged: dict[str, Any] = {"fmt": "o", "markersize": 4.0, "linewidth": 0.9} | style
    axes.errorbar(x, value, errors, color=color, label=label, **merged)


def draw_demo(measurements: Sequence[DemoMeasurement], path: Path) -> None:
    """Draw every curve that was read back from Tiled, and prediction against truth."""
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    groups = {technique: [m for m in measurements if m.technique is technique] for technique in LABELS}
    groups = {technique: members for technique, members in groups.items() if members}
    heights = [1.6 * -(-len(members) // COLUMNS) for members in groups.values()]
    with rc_context(STYLE):
        figure = Figure(figsize=(11.0, sum(heights) + 3.2), layout="constrained")
        parts = figure.subfigures(len(groups) + 1, 1, squeeze=False, height_ratios=[*heights, 3.2]).ravel()
        for part, (technique, members) in zip(parts, groups.items(), strict=False):
            _draw_measured_curves(part, technique, members)
        names = Descriptor.main()
        for axes, name in zip(parts[-1].subplots(1, len(names)), names, strict=True):
            for technique, members in groups.items():
                _draw_parity(axes, name, members, technique)
            axes.set_xlabel(f"true {name.heading}")
            axes.set_ylabel(f"predicted {name.heading}, 90 %")
            axes.legend(frameon=False, loc="upper left")
        figure.savefig(path)


def _draw_measured_curves(part: Any, technique: Technique, measurements: Sequence[DemoMeasurement]) -> None:
    rows = -(-len(measurements) // COLUMNS)
    xanes = technique is Technique.XANES
    panels = part.subplots(rows, COLUMNS, sharex=True, sharey=xanes, squeeze=False).ravel()
    for axes, measurement in zip(panels, measurements, strict=False):
        x, start = measurement.x, measurement.start
        origin = FOIL_ENERGIES[measurement.element] if xanes else 0.0
        _plot_curve(axes, technique, x - origin, measurement.curve)
        axes.set_title(_title(measurement.name, start["descriptors"]), fontsize=6.5)
    for axes in panels[len(measurements) :]:
        axes.set_visible(False)
    x_label, y_label = LABELS[technique]
    part.supxlabel(x_label, fontsize=8.0, color=INK)
    part.supylabel(y_label, fontsize=8.0, color=INK)


def curve_of(prediction: Prediction) -> tuple[Technique, FloatArray, FloatArray] | None:
    """Return technique, x and y of the curve of a prediction; G(r) if it has two.

    x is the energy above the metal foil [eV] or the distance [angstrom]. None if the prediction has no curve,
    or the foil energy is not tabulated.
    """
    if prediction.pdf is not None:
        return Technique.PDF, prediction.pdf.r, prediction.pdf.g
    if prediction.xanes is not None and prediction.element in FOIL_ENERGIES:
        x = prediction.xanes.energy - FOIL_ENERGIES[prediction.element]
        return Technique.XANES, x, prediction.xanes.flat
    return None


def _plot_curve(axes: "Axes", technique: Technique, x: FloatArray, y: FloatArray) -> None:
    if technique is Technique.PDF:
        shown = x <= LONGEST_DISTANCE
        axes.plot(x[shown], y[shown], color=INK, linewidth=0.8)
        return
    shown = (x >= WINDOW[0]) & (x <= WINDOW[1])
    axes.plot(x[shown], y[shown], color=INK, linewidth=1.0)
    axes.axhline(1.0, color=MUTED, linewidth=0.5)
    axes.set_xlim(*WINDOW)


def draw_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Draw the curves of some predictions with their answers; those without a curve are left out."""
    predictions_figure(predictions).savefig(path)


def predictions_figure(predictions: Sequence[Prediction]) -> "Figure":
    """Return the picture that `draw_predictions` writes."""
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    from bluesky_xpdml.publish.documents import summary

    drawn = [(p, curve) for p in predictions if (curve := curve_of(p)) is not None]
    columns = min(COLUMNS, max(len(drawn), 1))
    rows = max(-(-len(drawn) // columns), 1)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns + 0.6, 2.1 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (prediction, (technique, x, y)) in zip(panels, drawn, strict=False):
            _plot_curve(axes, technique, x, y)
            title = _title(prediction.source, summary(prediction)["descriptors"])
            axes.set_title(title, fontsize=6.5)
            axes.set_xlabel(LABELS[technique][0])
            axes.set_ylabel(LABELS[technique][1])
        for axes in panels[len(drawn) :]:
            axes.set_visible(False)
    return figure


def draw_answers(answers: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the oxidation state of measured compounds against the truth, the edge alone beside it.

    The rows hold `compound, element, calibrated, true, value, low, high, edge_curve`.
    """
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    ordered = sorted(answers, key=lambda row: (row["true"], row["element"], row["value"]))
    place = np.arange(len(ordered))
    value, low, high, edge, true = (
        np.array([row[key] for row in ordered]) for key in ("value", "low", "high", "edge_curve", "true")
    )
    with rc_context(STYLE):
        figure = Figure(figsize=(max(0.24 * len(ordered) + 1.2, 4.0), 3.6), layout="constrained")
        axes = figure.subplots()
        axes.hlines(true, place - 0.4, place + 0.4, color=INK, linewidth=2.0, label="true")
        _error_bars(axes, place, value, np.stack([low, high]), color=ACCENT, label="answer, 90 %")
        axes.plot(place, edge, "x", color=MUTED, markersize=4.0, label="edge position alone")
        names = [row["compound"].replace("_", " ") + ("" if row["calibrated"] else " *") for row in ordered]
        axes.set_xticks(place, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_ylabel(Descriptor.OXIDATION_STATE.heading)
        axes.set_title("measured oxides, each answered by models that never saw it (* energy axis unknown)")
        axes.legend(frameon=False, loc="upper left")
        figure.savefig(path)


def draw_xanes(xanes: Xanes, path: Path) -> Path:
    """Draw a reduced spectrum with its fits, and the normalised one beside it; return the path."""
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(8.0, 2.8), layout="constrained")
        raw, flat = figure.subplots(1, 2)
        raw.plot(xanes.energy, xanes.mu, color=INK, linewidth=1.0)
        raw.plot(xanes.energy, xanes.pre_edge, color=MUTED, linewidth=0.8, label="pre-edge")
        raw.plot(xanes.energy, xanes.post_edge, color=ACCENT, linewidth=0.8, label="post-edge")
        raw.set_ylabel("µ(E) [as measured]")
        raw.legend(frameon=False)
        flat.plot(xanes.energy, xanes.flat, color=INK, linewidth=1.0)
        flat.axvline(xanes.e0, color=ACCENT, linewidth=0.8)
        flat.set_ylabel("flattened µ(E) [edge steps]")
        flat.set_xlim(xanes.e0 - 50.0, min(xanes.e0 + 150.0, xanes.energy[-1]))
        raw.set_title(f"{xanes.source} ({xanes.quality.verdict})")
        for axes in (raw, flat):
            axes.set_xlabel("energy [eV]")
        figure.savefig(path)
    return path


def draw_pdf(pdf: PairDistribution, path: Path) -> Path:
    """Draw I(Q), S(Q), F(Q) and G(r), those that are known; return the path."""
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    curves = [
        ("Q [1/Å]", pdf.q, "I(Q) [electron units]", pdf.intensity, None),
        ("Q [1/Å]", pdf.q, "S(Q)", pdf.s, pdf.s_variance),
        ("Q [1/Å]", pdf.q, "F(Q) [1/Å]", pdf.f, pdf.f_variance),
        ("r [Å]", pdf.r, "G(r) [1/Å²]", pdf.g, pdf.g_variance),
    ]
    known = [curve for curve in curves if curve[1] is not None and curve[3] is not None]
    columns, rows = min(len(known), 2), -(-len(known) // 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns, 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (x_label, x, y_label, y, variance) in zip(panels, known, strict=False):
            if variance is not None:
                sigma = np.sqrt(variance)
                axes.fill_between(x, y - sigma, y + sigma, color=ACCENT, alpha=0.3, linewidth=0.0)
            axes.plot(x, y, color=INK, linewidth=0.8)
            axes.set_xlabel(x_label)
            axes.set_ylabel(y_label)
        panels[0].set_title(f"{pdf.source} ({pdf.quality.verdict})")
        figure.savefig(path)
    return path


def _title(name: str, descriptors: Mapping[str, Any]) -> str:
    if not descriptors:
        return f"{name}: no answer"
    state, number, length = (
        f"{key.label} {descriptors[key]['value']:.{digits}f}" if key in descriptors else ""
        for key, digits in zip(Descriptor.main(), (1, 1, 2), strict=True)
    )
    length = f"{length} {Descriptor.BOND_LENGTH.symbol}" if length else ""
    first = ", ".join(text for text in (state, length) if text)
    return "\n".join(text for text in (name, first, number) if text)


def _draw_parity(
    axes: "Axes", name: Descriptor, measurements: Sequence[DemoMeasurement], technique: Technique
) -> None:
    answered = [m for m in measurements if name in m.start["descriptors"]]
    if not answered:
        return
    truth = np.array([m.truth[name] for m in answered])
    found = [m.start["descriptors"][name] for m in answered]
    value, low, high = (np.array([one[key] for one in found]) for key in ("value", "low", "high"))
    # Equal truths are drawn side by side, so that their intervals do not overlap.
    second = 0.5 if technique is Technique.PDF else 0.0
    spread = 0.012 * np.ptp(truth) * (np.arange(truth.size) % 5 - 2 + second)
    color, marker = MARKS[technique]
    style: dict[str, Any] = {"fmt": marker, "markersize": 3.0, "linewidth": 0.8}
    label = technique.upper()
    _error_bars(axes, truth + spread, value, np.stack([low, high]), color=color, label=label, **style)
    ends = [min(truth.min(), low.min()), max(truth.max(), high.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, zorder=0)
