"""Pictures of repeats: what each says, and how the interval narrows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bluesky_xpdml.cli.figures import ACCENT, INK, MUTED, STYLE
from bluesky_xpdml.models.repeats import RepeatedPrediction

WINDOW = (-20.0, 60.0)
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
        shown = (xanes.energy > xanes.e0 + WINDOW[0]) & (xanes.energy < xanes.e0 + WINDOW[1])
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
