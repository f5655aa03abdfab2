"""Pictures: one style, units on every axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_xpdml.records import DemoMeasurement, FloatArray, PairDistribution, Prediction, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from bluesky_xpdml.models.repeats import RepeatedPrediction

WINDOW_figures_repeats = (-20.0, 60.0)
"""Range of the spectrum that is drawn [eV from the edge]."""


def draw_repeats(answers: Sequence[RepeatedPrediction], path: Path) -> None:
    """Draw the mean spectrum with its 90 % band, and the answer with its interval against the repeats.

    Parameters
    ----------
    answers
        After each repeat, at least one.
    path
        PNG, SVG or PDF.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    xanes = answers[-1].merged.xanes
    found = [answer.prediction.descriptors["oxidation_state"] for answer in answers]
    number = np.array([answer.progress.n_repeats for answer in answers])
    value, low, high = (np.array([getattr(one, key) for one in found]) for key in ("value", "low", "high"))
    bare = np.array([answer.progress.model_width for answer in answers])
    with rc_context(STYLE):
        figure = Figure(figsize=(8.0, 2.8), layout="constrained")
        mean, interval = figure.subplots(1, 2)
        shown = (xanes.energy > xanes.e0 + WINDOW_figures_repeats[0]) & (
            xanes.energy < xanes.e0 + WINDOW_figures_repeats[1]
        )
        x, norm = xanes.energy[shown], xanes.norm[shown]
        if xanes.mu_variance is not None:
            sigma = 1.645 * np.sqrt(xanes.mu_variance[shown]) / xanes.edge_step
            mean.fill_between(x, norm - sigma, norm + sigma, color=ACCENT, alpha=0.3, linewidth=0.0)
        mean.plot(x, norm, color=INK, linewidth=1.0)
        mean.set_xlabel("energy [eV]")
        mean.set_ylabel("normalised µ(E) [edge steps]")
        mean.set_title(f"mean of {answers[-1].progress.n_kept} repeats, 90 %")
        interval.fill_between(
            number,
            value - bare / 2.0,
            value + bare / 2.0,
            color=MUTED,
            alpha=0.3,
            linewidth=0.0,
            label="without noise",
        )
        errors = np.abs(np.stack([value - low, high - value]))
        interval.errorbar(
            number, value, errors, fmt="o", color=ACCENT, markersize=4.0, linewidth=0.9, label="answer, 90 %"
        )
        interval.set_xlabel("repeats")
        interval.set_ylabel("oxidation state")
        interval.set_xticks(number[:: max(number.size // 8, 1)])
        interval.legend(frameon=False)
        figure.savefig(path)


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
QUANTITIES = {
    "oxidation_state": "oxidation state",
    "coordination_number": "coordination number",
    "bond_length": "mean bond length [Å]",
}
PANELS = {
    "xanes": ("energy above the metal foil [eV]", "flattened µ(E) [edge steps]"),
    "pdf": ("r [Å]", "G(r) [1/Å²]"),
}
"""Labels of the axes, by technique."""
MARKS = {"xanes": (ACCENT, "o"), "pdf": (INK, "s")}
LONGEST_DISTANCE = 15.0
"""End of the range of G(r) that is drawn [angstrom]."""
COLUMNS = 5


def draw_demo(measurements: Sequence[DemoMeasurement], path: Path) -> None:
    """Draw every curve that was read back from Tiled, and prediction against truth.

    Parameters
    ----------
    measurements
        What was measured and found again.
    path
        PNG, SVG or PDF.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    groups = {technique: [m for m in measurements if m.technique == technique] for technique in PANELS}
    groups = {technique: members for technique, members in groups.items() if members}
    heights = [1.6 * -(-len(members) // COLUMNS) for members in groups.values()]
    with rc_context(STYLE):
        figure = Figure(figsize=(11.0, sum(heights) + 3.2), layout="constrained")
        parts = figure.subfigures(len(groups) + 1, 1, squeeze=False, height_ratios=[*heights, 3.2]).ravel()
        for part, (technique, members) in zip(parts, groups.items(), strict=False):
            _curves(part, technique, members)
        for axes, (name, label) in zip(
            parts[-1].subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True
        ):
            for technique, members in groups.items():
                _parity(axes, name, members, technique)
            axes.set_xlabel(f"true {label}")
            axes.set_ylabel(f"predicted {label}, 90 %")
            axes.legend(frameon=False, loc="upper left")
        figure.savefig(path)


def _curves(part: Any, technique: str, measurements: Sequence[DemoMeasurement]) -> None:
    rows = -(-len(measurements) // COLUMNS)
    panels = part.subplots(rows, COLUMNS, sharex=True, sharey=technique == "xanes", squeeze=False).ravel()
    for axes, measurement in zip(panels, measurements, strict=False):
        title = _title(measurement.name, measurement.start["descriptors"])
        if technique == "xanes":
            _spectrum(axes, measurement.x - FOIL_ENERGIES[measurement.element], measurement.curve, title)
        else:
            shown = measurement.x <= LONGEST_DISTANCE
            axes.plot(measurement.x[shown], measurement.curve[shown], color=INK, linewidth=0.8)
            axes.set_title(title)
    for axes in panels[len(measurements) :]:
        axes.set_visible(False)
    x_label, y_label = PANELS[technique]
    part.supxlabel(x_label, fontsize=8.0, color=INK)
    part.supylabel(y_label, fontsize=8.0, color=INK)


def draw_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Draw the curves of some predictions with their answers.

    Parameters
    ----------
    predictions
        Those without a spectrum or G(r) are left out.
    path
        PNG, SVG or PDF.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from bluesky_xpdml.publish.documents import summary

    drawn = [
        p for p in predictions if p.pdf is not None or (p.xanes is not None and p.element in FOIL_ENERGIES)
    ]
    columns = min(COLUMNS, max(len(drawn), 1))
    rows = max(-(-len(drawn) // columns), 1)
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns + 0.6, 2.1 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, prediction in zip(panels, drawn, strict=False):
            technique = "xanes" if prediction.pdf is None else "pdf"
            _draw_curve(axes, prediction, _title(prediction.source, summary(prediction)["descriptors"]))
            axes.set_xlabel(PANELS[technique][0])
            axes.set_ylabel(PANELS[technique][1])
        for axes in panels[len(drawn) :]:
            axes.set_visible(False)
        figure.savefig(path)


def _draw_curve(axes: "Axes", prediction: Prediction, title: str) -> None:
    if prediction.pdf is not None:
        shown = prediction.pdf.r <= LONGEST_DISTANCE
        axes.plot(prediction.pdf.r[shown], prediction.pdf.g[shown], color=INK, linewidth=0.8)
        axes.set_title(title)
    elif prediction.xanes is not None:
        x = prediction.xanes.energy - FOIL_ENERGIES[prediction.element]
        _spectrum(axes, x, prediction.xanes.flat, title)


def draw_answers(answers: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the oxidation state of measured compounds against the truth, the edge alone beside it.

    Parameters
    ----------
    answers
        Rows with `compound, element, calibrated, true, value, low, high, edge_curve`.
    path
        PNG, SVG or PDF.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ordered = sorted(answers, key=lambda row: (row["true"], row["element"], row["value"]))
    place = np.arange(len(ordered))
    value, low, high, edge, true = (
        np.array([row[key] for row in ordered]) for key in ("value", "low", "high", "edge_curve", "true")
    )
    with rc_context(STYLE):
        figure = Figure(figsize=(0.24 * len(ordered) + 1.2, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.hlines(true, place - 0.4, place + 0.4, color=INK, linewidth=2.0, label="true")
        errors = np.stack([value - low, high - value])
        axes.errorbar(
            place, value, errors, fmt="o", color=ACCENT, markersize=4.0, linewidth=0.9, label="answer, 90 %"
        )
        axes.plot(place, edge, "x", color=MUTED, markersize=4.0, label="edge position alone")
        names = [row["compound"].replace("_", " ") + ("" if row["calibrated"] else " *") for row in ordered]
        axes.set_xticks(place, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_ylabel("oxidation state")
        axes.set_title("measured oxides, each answered by models that never saw it (* energy axis unknown)")
        axes.legend(frameon=False, loc="upper left")
        figure.savefig(path)


def draw_xanes(xanes: Xanes, path: Path) -> Path:
    """Draw a reduced spectrum with its fits, and the normalised one beside it; return the path.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    path
        PNG, SVG or PDF.
    """
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
    """Draw I(Q), S(Q), F(Q) and G(r), those that are known; return the path.

    Parameters
    ----------
    pdf
        What was reduced.
    path
        PNG, SVG or PDF.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    curves = [
        (pdf.q, pdf.intensity, None, "Q [1/Å]", "I(Q) [electron units]"),
        (pdf.q, pdf.s, pdf.s_variance, "Q [1/Å]", "S(Q)"),
        (pdf.q, pdf.f, pdf.f_variance, "Q [1/Å]", "F(Q) [1/Å]"),
        (pdf.r, pdf.g, pdf.g_variance, "r [Å]", "G(r) [1/Å²]"),
    ]
    known = [
        (x, y, variance, *labels) for x, y, variance, *labels in curves if x is not None and y is not None
    ]
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6 * min(len(known), 2), 2.4 * -(-len(known) // 2)), layout="constrained")
        places = figure.subplots(-(-len(known) // 2), min(len(known), 2), squeeze=False).ravel()
        for axes, (x, y, variance, x_label, y_label) in zip(places, known, strict=False):
            if variance is not None:
                sigma = np.sqrt(variance)
                axes.fill_between(x, y - sigma, y + sigma, color=ACCENT, alpha=0.3, linewidth=0.0)
            axes.plot(x, y, color=INK, linewidth=0.8)
            axes.set_xlabel(x_label)
            axes.set_ylabel(y_label)
        places[0].set_title(f"{pdf.source} ({pdf.quality.verdict})")
        figure.savefig(path)
    return path


def _spectrum(axes: "Axes", x: FloatArray, flat: FloatArray, title: str) -> None:
    shown = (x >= WINDOW[0]) & (x <= WINDOW[1])
    axes.plot(x[shown], flat[shown], color=INK, linewidth=1.0)
    axes.axhline(1.0, color=MUTED, linewidth=0.5)
    axes.set_title(title)
    axes.set_xlim(*WINDOW)


def _title(name: str, descriptors: Mapping[str, Any]) -> str:
    if not descriptors:
        return f"{name}: no answer"
    state, number = (descriptors[key]["value"] for key in ("oxidation_state", "coordination_number"))
    return f"{name}\nvalence {state:.1f}, CN {number:.1f}, {descriptors['bond_length']['value']:.2f} Å"


def _parity(axes: "Axes", name: str, measurements: Sequence[DemoMeasurement], technique: str) -> None:
    answered = [m for m in measurements if name in m.start["descriptors"]]
    if not answered:
        return
    truth = np.array([m.truth[name] for m in answered])
    found = [m.start["descriptors"][name] for m in answered]
    value, low, high = (np.array([one[key] for one in found]) for key in ("value", "low", "high"))
    # Equal truths are drawn beside each other, so that their intervals can be told apart.
    spread = 0.012 * np.ptp(truth) * (np.arange(truth.size) % 5 - 2 + (0.5 if technique == "pdf" else 0.0))
    errors = np.abs(np.stack([value - low, high - value]))
    colour, marker = MARKS[technique]
    axes.errorbar(
        truth + spread,
        value,
        errors,
        fmt=marker,
        color=colour,
        markersize=3.0,
        linewidth=0.8,
        label=technique.upper(),
    )
    ends = [min(truth.min(), low.min()), max(truth.max(), high.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, zorder=0)
