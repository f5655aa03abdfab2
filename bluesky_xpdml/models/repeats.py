"""The answer after each repeat of a scan, and whether more repeats would narrow its interval.

The interval of a single answer comes from standards that the models never saw; it says how accurate
models and axes are, not what counting longer would gain. The noise is added to it::

    half width = sqrt(half width of the model^2 + (1.645 s)^2)

s is the larger of two: the standard deviation of the answer over random draws of the mean spectrum with the
variance of its points, and, from three repeats on, the scatter of the answers of single repeats over the
square root of their number, which also includes slow drifts. Standards are noisy too, so that a part of it
counts twice: the interval is rather too wide. Repeats are enough once infinitely many more would narrow it
by less than a twentieth.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import AbsorptionScan, Estimate, FloatArray, Prediction, Xanes
from bluesky_xpdml.reduction.repeats import MergedRepeats, RepeatSettings, merge_repeats
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import Descriptor, Reason

NORMAL_90 = 1.645
"""Half width of the 90 % interval of a normal distribution [standard deviations]."""
DRAWS = 24
"""Number of random draws of a spectrum."""
ENOUGH = 0.05
"""Repeats are enough if infinitely many more would narrow the interval by less than this share."""
HEADLINE = Descriptor.OXIDATION_STATE
"""The descriptor whose interval decides whether repeats are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatProgress:
    """Whether more repeats would narrow the interval."""

    n_repeats: int
    n_kept: int
    """Repeats that were averaged."""
    noise: float
    """Standard deviation of the oxidation state by noise [e]."""
    width: float
    """Of the 90 % interval of the oxidation state [e]."""
    model_width: float
    """Width without noise [e]."""

    @property
    def left_to_gain(self) -> float:
        """Share of the width that more repeats could remove at most, 1 - model_width / width, 0 to 1."""
        return 1.0 - self.model_width / self.width if self.width > 0.0 else 0.0

    @property
    def enough(self) -> bool:
        """Whether more repeats would hardly narrow the interval."""
        return self.left_to_gain < ENOUGH

    @property
    def n_needed(self) -> int:
        """Number of such repeats that would be enough, if noise falls with the root of their number."""
        allowed = self.model_width * math.sqrt(1.0 / (1.0 - ENOUGH) ** 2 - 1.0)
        ours = math.sqrt(max(self.width**2 - self.model_width**2, 0.0))
        if self.enough or allowed <= 0.0:
            return self.n_kept
        return math.ceil(self.n_kept * (ours / allowed) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedPrediction:
    """The prediction after some repeats."""

    prediction: Prediction
    """Of the mean spectrum, with the noise in its intervals."""
    merged: MergedRepeats
    progress: RepeatProgress


class RepeatSeries:
    """Adds up the repeats of one sample and predicts after each."""

    def __init__(self, store: BundleStore, settings: RepeatSettings) -> None:
        self._store = store
        self._settings = settings
        self._spectra: list[Xanes] = []
        self._singles: list[Mapping[Descriptor, float]] = []

    def add(self, xanes: Xanes) -> RepeatedPrediction:
        """Return the answer with one more reduced repeat.

        It is not added, and an XpdmlError raised, if it is of another element or edge, or cannot be answered.
        """
        single = predict_xanes(xanes, self._store)
        merged = merge_repeats([*self._spectra, xanes], self._settings)
        answer = predict_xanes(merged.xanes, self._store)
        self._spectra.append(xanes)
        self._singles.append({name: found.value for name, found in single.descriptors.items()})
        noise = self._noise(merged)
        widened = {
            name: with_noise(estimate, noise.get(name, 0.0)) for name, estimate in answer.descriptors.items()
        }
        before, after = answer.descriptors[HEADLINE], widened[HEADLINE]
        progress = RepeatProgress(
            n_repeats=len(self._spectra),
            n_kept=merged.n_kept,
            noise=noise[HEADLINE],
            width=after.high - after.low,
            model_width=before.high - before.low,
        )
        prediction = replace(
            answer, descriptors=widened, diagnostics={**answer.diagnostics, **_diagnostics(progress)}
        )
        return RepeatedPrediction(prediction=prediction, merged=merged, progress=progress)

    def _noise(self, merged: MergedRepeats) -> dict[Descriptor, float]:
        """Return the standard deviation of each descriptor by noise."""
        drawn = drawn_noise(merged.xanes, self._store)
        kept = [
            single
            for single, repeat in zip(self._singles, merged.repeats, strict=True)
            if not repeat.rejected
        ]
        if len(kept) < 3:
            return drawn
        return {
            name: max(value, float(np.std([single[name] for single in kept], ddof=1)) / math.sqrt(len(kept)))
            for name, value in drawn.items()
        }


def predict_repeats(
    scans: Sequence[AbsorptionScan],
    store: BundleStore,
    settings: XanesSettings,
    repeats: RepeatSettings | None = None,
) -> tuple[RepeatedPrediction, ...]:
    """Answer after each repeat of a scan.

    Parameters
    ----------
    scans
        Scans of one sample, in the order in which they were measured.
    store
        The models that may answer.
    settings
        How each scan is reduced.
    repeats
        How the scans are merged; the defaults if None.

    Returns
    -------
    tuple
        One answer after each scan that could be reduced; why others could not is noted in the quality of the
        answers after them.

    Raises
    ------
    XpdmlError
        If no scan can be reduced and answered: the reason of the last one.

    Examples
    --------
    >>> from bluesky_xpdml.demo.simulated_scan import simulated_scan
    >>> answers = predict_repeats([simulated_scan(seed=1)], BundleStore.default(), XanesSettings())
    >>> len(answers), answers[0].progress.enough
    (1, True)
    """
    series = RepeatSeries(store, repeats or RepeatSettings())
    answers: list[RepeatedPrediction] = []
    failed: list[XpdmlError] = []
    for scan in scans:
        try:
            answer = series.add(reduce_xanes(scan, settings))
        except XpdmlError as error:
            failed.append(error)
            continue
        notes = [Reason(f"a repeat left out: {error}", error.code) for error in failed]
        quality = answer.prediction.quality.note(*notes)
        answers.append(replace(answer, prediction=replace(answer.prediction, quality=quality)))
    if failed and not answers:
        raise failed[-1]
    return tuple(answers)


def with_noise(descriptor: Estimate, noise: float) -> Estimate:
    """Widen an interval by the standard deviation of its value from noise, in quadrature."""
    extra = NORMAL_90 * noise
    low = descriptor.value - math.hypot(descriptor.value - descriptor.low, extra)
    high = descriptor.value + math.hypot(descriptor.high - descriptor.value, extra)
    return replace(descriptor, low=max(low, 0.0), high=high)


def drawn_noise(xanes: Xanes, store: BundleStore) -> dict[Descriptor, float]:
    """Return the standard deviation of each descriptor by the noise of mu; empty if that is unknown.

    Raises
    ------
    XpdmlError
        If the spectrum cannot be answered.
    """
    if xanes.mu_variance is None:
        return {}
    drawn = [
        {name: estimate.value for name, estimate in predict_xanes(draw, store).descriptors.items()}
        for draw in _draws(xanes, np.sqrt(xanes.mu_variance))
    ]
    return {name: float(np.std([each[name] for each in drawn], ddof=1)) for name in drawn[0]}


def _draws(xanes: Xanes, sigma: FloatArray) -> Iterator[Xanes]:
    # The same draws for the same spectrum, so that answers are reproducible.
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        yield replace(xanes, mu=xanes.mu + sigma * rng.normal(size=sigma.size))


def _diagnostics(progress: RepeatProgress) -> dict[str, float]:
    return {
        "repeat_count": float(progress.n_repeats),
        "repeats_kept": float(progress.n_kept),
        "repeat_interval_width": progress.width,
        "oxidation_state_noise": progress.noise,
        "interval_left_to_gain": progress.left_to_gain,
        "repeats_needed": float(progress.n_needed),
        "repeats_enough": float(progress.enough),
    }
