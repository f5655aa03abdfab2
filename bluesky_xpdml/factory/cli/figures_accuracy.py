"""The picture of the simulated benchmark: how accurate each modality is, element by element."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.figures.curves import ACCENT, INK, MUTED, STYLE
from bluesky_xpdml.vocabulary import Descriptor, Modality

PANELS = {
    "oxidation state, accuracy": (Descriptor.OXIDATION_STATE, "accuracy"),
    "coordination number, accuracy": (Descriptor.COORDINATION_NUMBER, "accuracy"),
    "bond length, R²": (Descriptor.BOND_LENGTH, "r2"),
}
COLOURS = {
    Modality.PDF: MUTED,
    Modality.DPDF: "#4a7c94",
    Modality.XANES: ACCENT,
    Modality.XANES_PDF: "#b08968",
    Modality.XANES_DPDF: INK,
}
"""By modality, in the order in which bars are drawn."""
LOWEST = 0.3
"""Where the axes begin."""


def draw_accuracy(figures: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw every modality beside the others, on the rows that they share and formulas that none has seen."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    chosen = {
        (row["element"], row["modality"], row["target"], row["metric"]): row
        for row in figures
        if row["rows"] == "shared" and row["split"] == "formula"
    }
    elements = list(dict.fromkeys(key[0] for key in chosen))
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 2.3 * len(PANELS)), layout="constrained")
        for axes, (label, (target, metric)) in zip(
            figure.subplots(len(PANELS), 1, sharex=True), PANELS.items(), strict=True
        ):
            _bars(axes, chosen, elements, target, metric)
            axes.set_ylabel(label)
            axes.set_ylim(LOWEST, 1.0)
            axes.set_xticks(np.arange(len(elements)), elements)
        figure.axes[0].legend(frameon=False, ncols=len(COLOURS) + 1, loc="lower left", bbox_to_anchor=(0, 1))
        figure.savefig(path)


def _bars(axes: Any, chosen: Mapping[Any, Any], elements: Sequence[str], target: str, metric: str) -> None:
    width = 0.8 / len(COLOURS)
    for number, (modality, colour) in enumerate(COLOURS.items()):
        rows = [chosen.get((element, modality, target, metric)) for element in elements]
        place = np.arange(len(elements)) + (number - (len(COLOURS) - 1) / 2.0) * width
        means = [np.nan if row is None else row["mean"] for row in rows]
        errors = [np.nan if row is None or row["sd"] is None else row["sd"] for row in rows]
        style = {"elinewidth": 0.6, "ecolor": INK}
        axes.bar(place, means, width, yerr=errors, color=colour, label=modality, error_kw=style)
    if metric == "r2":
        return
    first = [chosen.get((element, Modality.XANES, target, metric)) for element in elements]
    for middle, row in enumerate(first):
        if row is not None:
            label = "commonest class" if middle == 0 else None
            axes.plot([middle - 0.45, middle + 0.45], [row["majority"]] * 2, color=INK, ls=":", label=label)
