"""Plan stubs that look at predictions: repeat until the answer is narrow, measure the other way if it pays.

They wait with the RunEngine's own sleep, so that it can be paused, stopped and suspended meanwhile, and end
with a reason where a prediction fails or does not come.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.acquisition import measured_uids
from bluesky_xpdml.planning.advice import Gain, advise
from bluesky_xpdml.planning.answers import Answer, Question, Wanted, awaited, in_plan, look
from bluesky_xpdml.planning.count import Narrow, width_of
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction

Plan: TypeAlias = Generator[Any, Any, Any]
SamplePlan: TypeAlias = Callable[[str, Mapping[str, Any]], Plan]
"""Measures a sample, given its name and more for the start document; returns the uid of its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """How samples are measured here, and where the predictions come.

    Raises
    ------
    PlanningError
        If there is no plan, or the time is not positive.
    """

    plans: Mapping[str, SamplePlan]
    """By technique: `xanes`, `pdf`, `dpdf`."""
    catalog: PredictionCatalog
    timeout: float
    """No longer than this is waited for one prediction [s]."""
    merged_within: float = 0.0
    """Where the callback merges repeats: wait so long after a run's own answer for that of its series [s]."""

    def __post_init__(self) -> None:
        if not self.plans or not self.timeout > 0.0:
            found = f"{list(self.plans)} and {self.timeout:g} s"
            raise PlanningError(f"expected plans by technique and a positive time, found {found}")


class Ended(StrEnum):
    """Why measuring ended."""

    NARROW = "narrow"
    """The answer is as narrow as asked."""
    REPEATS = "repeats"
    """No more repeats are allowed."""
    FAILED = "failed"
    """No repeat gave an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of measuring a sample."""

    prediction: PublishedPrediction | None
    """The last answer; None where there was none."""
    ended: Ended
    reason: str
    """In words."""
    width: float
    """As it was judged [unit of the descriptor]; infinite where that could not be told."""
    raw_uids: tuple[str, ...]
    """Start uids of the runs."""
    failures: tuple[str, ...]
    """Why repeats gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What came of measuring a sample one way and, where it paid, another."""

    first: PublishedPrediction | None
    """None where it failed."""
    second: PublishedPrediction | None
    """None where it was not worth it, or failed."""
    gain: Gain | None
    """Of the best other modality that can be measured here; None where nothing can be told."""
    raw_uids: tuple[str, ...]
    reason: str
    """Why the second one was measured or was not, or what failed."""


def measure_until(
    sample: str,
    descriptor: str,
    width: float,
    *,
    by: Measuring,
    at_most: int,
    technique: str = "xanes",
    judged: Narrow = Narrow.INTERVAL,
) -> Generator[Any, Any, Measured]:
    """Measure a sample again and again until its answer is narrow enough.

    Parameters
    ----------
    sample
        As the plan of the measurement knows it.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another.
    width
        Narrow enough [unit of the descriptor].
    by
        How samples are measured.
    at_most
        Repeats, failed ones counted too.
    technique
        Which of the plans.
    judged
        Which width. The interval of a single answer does not narrow with repeats; the merged answer does
        (`Measuring.merged_within`), and so does the mean of the answers.

    Raises
    ------
    PlanningError
        If there is no such plan, the width is not positive, no repeat is allowed, or the plan returns no uid.
    """
    if not width > 0.0 or at_most < 1:
        msg = f"expected a positive width and one repeat or more, found {width:g} and {at_most}"
        raise PlanningError(msg)
    answers: list[PublishedPrediction] = []
    failures: list[str] = []
    raw_uids: list[str] = []
    now = float("inf")
    while len(answers) + len(failures) < at_most and now > width:
        uids, answer = yield from _measured(sample, technique, by)
        raw_uids += uids
        if answer.prediction is None or answer.reason or descriptor not in answer.prediction.descriptors:
            failures.append(answer.reason or f"the prediction holds no {descriptor}")
            continue
        answers.append(answer.prediction)
        found = [each.descriptors[descriptor] for each in answers]
        now = width_of([each.value for each in found], [each.high - each.low for each in found], judged)
    return Measured(
        prediction=answers[-1] if answers else None,
        ended=Ended.NARROW if now <= width else Ended.REPEATS if answers else Ended.FAILED,
        reason=_why(now, width, failures, len(answers) + len(failures)),
        width=now,
        raw_uids=tuple(raw_uids),
        failures=tuple(failures),
    )


def choose_modality(
    sample: str, *, descriptor: str, first: str, least_gain: float, by: Measuring
) -> Generator[Any, Any, Chosen]:
    """Measure a sample one way, and another way only where that is expected to narrow a descriptor enough.

    Parameters
    ----------
    sample
        As the plans of the measurements know it.
    descriptor
        `oxidation_state`, `coordination_number` or `bond_length`.
    first
        What is measured in any case.
    least_gain
        The other modality is measured if it is expected to narrow the answer by more than this share, 0 to 1.
    by
        How samples are measured; only modalities with a plan are chosen from.

    Raises
    ------
    PlanningError
        If there is no such plan, or a plan returns no uid.
    """
    uids, answer = yield from _measured(sample, first, by)
    prediction = None if answer.reason else answer.prediction
    gain, reason = (None, answer.reason) if prediction is None else _advice(prediction, descriptor, first, by)
    if gain is None or gain.gain <= least_gain:
        told = reason if gain is None else f"{gain.modality} is expected to narrow it by {gain.gain:.2f} only"
        return Chosen(first=prediction, second=None, gain=gain, raw_uids=uids, reason=told)
    more, second = yield from _measured(sample, gain.modality, by)
    return Chosen(
        first=prediction,
        second=None if second.reason else second.prediction,
        gain=gain,
        raw_uids=(*uids, *more),
        reason=second.reason or f"{gain.modality} was expected to narrow it by {gain.gain:.2f}",
    )


def _advice(
    prediction: PublishedPrediction, descriptor: str, first: str, by: Measuring
) -> tuple[Gain | None, str]:
    """Return the best modality that can be measured here, or why none can be told."""
    try:
        gains = advise(prediction.start).gains
    except PlanningError as error:
        return None, str(error)
    others = set(by.plans) - {first}
    wanted = [gain for gain in gains if gain.descriptor == descriptor and gain.modality in others]
    if not wanted:
        have = ", ".join(sorted(others)) or "no other plan"
        return None, f"no advice about {descriptor} by {have}"
    return max(wanted, key=lambda gain: gain.gain), ""


def _measured(
    sample: str, technique: str, by: Measuring
) -> Generator[Any, Any, tuple[tuple[str, ...], Answer]]:
    """Measure once and wait for the answer."""
    if technique not in by.plans:
        raise PlanningError(f"expected a plan for {technique}, found those for {', '.join(by.plans)}")
    uids = measured_uids((yield from by.plans[technique](sample, {})))
    wanted = Wanted(technique=technique, timeout=by.timeout, merged_within=by.merged_within)
    question = Question(wanted=wanted, raw_uids=uids, trials=("",))
    answers = yield from in_plan(awaited(partial(look, by.catalog, uids), question))
    return uids, answers[""]


def _why(now: float, width: float, failures: list[str], n: int) -> str:
    if now <= width:
        return f"the width is {now:.3g} after {n} repeats, {width:g} was asked"
    if len(failures) == n:
        return f"none of {n} repeats gave an answer: {failures[-1]}"
    return f"the width is {now:.3g} after {n} repeats, {width:g} was asked; no more are allowed"
