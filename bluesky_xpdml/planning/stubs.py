"""Plan stubs that use predictions: repeat until the answer is narrow, add a modality if it is worth it.

They wait with the RunEngine's own sleep, so that it can be paused, stopped and suspended meanwhile, and end
with a reason if a prediction fails or does not come.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.acquisition import returned_uids
from bluesky_xpdml.planning.advice import Gain, advise
from bluesky_xpdml.planning.answers import (
    Answer,
    AnswerCriteria,
    AnswerRequest,
    query_answers,
    wait_for_answers,
    wait_in_plan,
)
from bluesky_xpdml.planning.count import WidthKind, answer_width
from bluesky_xpdml.planning.trials import choice
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.vocabulary import Descriptor, Technique

Plan: TypeAlias = Generator[Any, Any, Any]
SamplePlan: TypeAlias = Callable[[str, Mapping[str, Any]], Plan]
"""Measures a sample, given its name and more for the start document; returns the uid of its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementSetup:
    """The plans that measure samples, at least one, and the catalog of their predictions."""

    plans: Mapping[str, SamplePlan]
    """By technique: `xanes`, `pdf`, `dpdf`."""
    catalog: PredictionCatalog
    timeout: float
    """Longest wait for one prediction [s]."""
    merged_within: float = 0.0
    """If the callback merges repeats: how long to wait for the merged answer after a run's own answer [s]."""

    def __post_init__(self) -> None:
        if not self.plans or not self.timeout > 0.0:
            found = f"{list(self.plans)} and {self.timeout:g} s"
            raise PlanningError(f"expected plans by technique and a positive time, found {found}")


class Ended(StrEnum):
    """Why `measure_until` ended."""

    NARROW = "narrow"
    """The answer is narrow enough."""
    REPEATS = "repeats"
    """No more repeats are allowed."""
    FAILED = "failed"
    """No repeat gave an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatResult:
    """The result of `measure_until`."""

    prediction: PublishedPrediction | None
    """The last answer; None if there was none."""
    ended: Ended
    reason: str
    """Why it ended, for people."""
    width: float
    """Of the answer [unit of the descriptor]; infinite if it is not known."""
    raw_uids: tuple[str, ...]
    """Start uids of the runs."""
    failures: tuple[str, ...]
    """Why repeats gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityResult:
    """The result of `choose_modality`."""

    first: PublishedPrediction | None
    """None if it failed."""
    second: PublishedPrediction | None
    """None if it was not measured, or failed."""
    gain: Gain | None
    """Of the best other modality with a plan; None if there is no advice."""
    raw_uids: tuple[str, ...]
    reason: str
    """Why the second modality was measured or not, or what failed."""


def measure_until(
    sample: str,
    descriptor: str,
    width: float,
    *,
    by: MeasurementSetup,
    at_most: int,
    technique: str = Technique.XANES,
    judged: WidthKind = WidthKind.INTERVAL,
) -> Generator[Any, Any, RepeatResult]:
    """Measure a sample again and again until its answer is narrow enough.

    Parameters
    ----------
    sample
        Name, for the plan of the measurement.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another member of `Descriptor`.
    width
        Narrow enough [unit of the descriptor].
    by
        Plans and predictions.
    at_most
        Largest number of repeats, failed ones included.
    technique
        Which of the plans.
    judged
        Which width. The interval of a single answer does not narrow with repeats; the merged answer does
        (`MeasurementSetup.merged_within`), and so does the mean of the answers.

    Raises
    ------
    PlanningError
        If there is no such plan or descriptor, the width is not positive, no repeat is allowed, or the plan
        returns no uid.
    """
    if not width > 0.0 or at_most < 1:
        msg = f"expected a positive width and one repeat or more, found {width:g} and {at_most}"
        raise PlanningError(msg)
    name = choice(Descriptor, descriptor)
    answers: list[PublishedPrediction] = []
    failures: list[str] = []
    raw_uids: list[str] = []
    now = float("inf")
    while len(answers) + len(failures) < at_most and now > width:
        uids, answer = yield from _measure(sample, technique, by)
        raw_uids += uids
        if answer.prediction is None or answer.reason or name not in answer.prediction.descriptors:
            failures.append(answer.reason or f"the prediction holds no {name}")
            continue
        answers.append(answer.prediction)
        found = [each.descriptors[name] for each in answers]
        now = answer_width([each.value for each in found], [each.high - each.low for each in found], judged)
    return RepeatResult(
        prediction=answers[-1] if answers else None,
        ended=Ended.NARROW if now <= width else Ended.REPEATS if answers else Ended.FAILED,
        reason=_why_ended(now, width, failures, len(answers) + len(failures)),
        width=now,
        raw_uids=tuple(raw_uids),
        failures=tuple(failures),
    )


def choose_modality(
    sample: str, *, descriptor: str, first: str, least_gain: float, by: MeasurementSetup
) -> Generator[Any, Any, ModalityResult]:
    """Measure a sample one way, and another way only if that is expected to narrow a descriptor enough.

    Parameters
    ----------
    sample
        Name, for the plans of the measurements.
    descriptor
        `oxidation_state`, `coordination_number` or `bond_length`.
    first
        Technique that is always measured.
    least_gain
        The other modality is measured if it is expected to narrow the answer by more than this share, 0 to 1.
    by
        Plans and predictions; only modalities with a plan are considered.

    Raises
    ------
    PlanningError
        If there is no such plan, or a plan returns no uid.
    """
    uids, answer = yield from _measure(sample, first, by)
    prediction = None if answer.reason else answer.prediction
    gain, reason = (
        (None, answer.reason) if prediction is None else _best_gain(prediction, descriptor, first, by)
    )
    if gain is None or gain.gain <= least_gain:
        why = reason if gain is None else f"{gain.modality} is expected to narrow it by {gain.gain:.2f} only"
        return ModalityResult(first=prediction, second=None, gain=gain, raw_uids=uids, reason=why)
    more, second = yield from _measure(sample, gain.modality, by)
    return ModalityResult(
        first=prediction,
        second=None if second.reason else second.prediction,
        gain=gain,
        raw_uids=(*uids, *more),
        reason=second.reason or f"{gain.modality} was expected to narrow it by {gain.gain:.2f}",
    )


def _best_gain(
    prediction: PublishedPrediction, descriptor: str, first: str, by: MeasurementSetup
) -> tuple[Gain | None, str]:
    """Return the best modality with a plan, or why there is none."""
    try:
        gains = advise(prediction.start).gains
    except PlanningError as error:
        return None, str(error)
    others = set(by.plans) - {first}
    possible = [gain for gain in gains if gain.descriptor == descriptor and gain.modality in others]
    if not possible:
        plans = ", ".join(sorted(others)) or "no other plan"
        return None, f"no advice about {descriptor} by {plans}"
    return max(possible, key=lambda gain: gain.gain), ""


def _measure(
    sample: str, technique: str, by: MeasurementSetup
) -> Generator[Any, Any, tuple[tuple[str, ...], Answer]]:
    """Measure once and wait for the answer."""
    if technique not in by.plans:
        raise PlanningError(f"expected a plan for {technique}, found those for {', '.join(by.plans)}")
    uids = returned_uids((yield from by.plans[technique](sample, {})))
    criteria = AnswerCriteria(
        technique=choice(Technique, technique), timeout=by.timeout, merged_within=by.merged_within
    )
    request = AnswerRequest(criteria=criteria, raw_uids=uids, trials=("",))
    answers = yield from wait_in_plan(wait_for_answers(partial(query_answers, by.catalog, uids), request))
    return uids, answers[""]


def _why_ended(now: float, width: float, failures: list[str], n: int) -> str:
    if now <= width:
        return f"the width is {now:.3g} after {n} repeats, {width:g} was asked"
    if len(failures) == n:
        return f"none of {n} repeats gave an answer: {failures[-1]}"
    return f"the width is {now:.3g} after {n} repeats, {width:g} was asked; no more are allowed"
