"""Waiting for predictions: which answer counts for a trial, and when none will come any more.

Waiting is written once, as a generator that yields pauses [s]: `blocking` sleeps through them, `in_plan`
hands them to the RunEngine, which stays interruptible. The catalog is asked in a thread, so that neither is
held up by a server that does not answer.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.publish.tiled import HEALTH_TIMEOUT

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Steps = Generator[float, None, Result]
"""Yields pauses [s], returns what was waited for."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Between two questions to the server [s]; it grows while nothing comes."""
GROWTH = 1.3
GLANCE = 0.02
"""Between two looks at whether the server has answered [s]."""
MOST_ANSWERS = 1000
"""Answers to one raw run that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which answer a planner waits for, and how long.

    Examples
    --------
    >>> wanted = Wanted(technique="xanes+pdf", element="Fe", timeout=300.0)
    """

    technique: str
    """`xanes`, `pdf`, `dpdf`, or of both: `xanes+pdf`, `xanes+dpdf`."""
    timeout: float
    """No longer than this is waited for an answer [s]."""
    element: str = ""
    """Where a run may hold several; empty for any."""
    campaign: str = ""
    """Trials of other campaigns do not count; empty for any."""
    alone: str = ""
    """Of a joint technique, the part that counts where a trial was measured by it alone, or the other part
    failed; empty for none."""
    merged_within: float = 0.0
    """Where the callback merges repeats: wait so long after a run's own answer for that of its series [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What has become of one trial."""

    prediction: PublishedPrediction | None
    """The answer that counts; None where none came in time or none will come."""
    reason: str = ""
    """Why there is no usable answer; empty where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the server has of some raw runs."""

    predictions: Sequence[PublishedPrediction] = ()
    error: str = ""
    """Why the server could not be asked; empty where it could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is waited for."""

    wanted: Wanted
    raw_uids: Sequence[str]
    """Start uids of the raw runs, of all trials together."""
    trials: Sequence[str]
    """Ids. Where there is one only, answers that name no trial are its own; with `""`, all are."""
    since: dict[str, float] = field(default_factory=dict)
    """When an answer to each trial was first seen [monotonic s]; written while it is waited."""


def blocking(steps: Steps[Result]) -> Result:
    """Wait in this thread.

    Parameters
    ----------
    steps
        Pauses [s].
    """
    while True:
        try:
            time.sleep(next(steps))
        except StopIteration as end:
            result: Result = end.value
            return result


def in_plan(steps: Steps[Result]) -> Generator[Any, Any, Result]:
    """Wait in a plan: the RunEngine sleeps, and can be paused, stopped and suspended meanwhile.

    Parameters
    ----------
    steps
        Pauses [s].
    """
    from bluesky import plan_stubs

    # What was measured is not measured again where the RunEngine is paused while it waits.
    yield from plan_stubs.checkpoint()
    while True:
        try:
            pause = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield from plan_stubs.sleep(pause)


def require_health(catalog: PredictionCatalog) -> None:
    """Ask quickly whether the server is there, before a client tries for more than a minute.

    Parameters
    ----------
    catalog
        Where predictions are.

    Raises
    ------
    PublishError
        If it is not.
    """
    import httpx

    client: Any = catalog.container.context.http_client
    try:
        client.send(client.build_request("GET", catalog.container.uri, timeout=HEALTH_TIMEOUT))
    except httpx.HTTPError as error:
        raise PublishError(f"expected a server at {catalog.container.uri}: {error}") from error


def look(catalog: PredictionCatalog, raw_uids: Sequence[str]) -> Seen:
    """Return the latest answers about raw runs; where the server is away, say so within seconds.

    Parameters
    ----------
    catalog
        Where predictions are.
    raw_uids
        Start uids of the raw runs.
    """
    import httpx

    try:
        require_health(catalog)
        found = {
            each.uid: each
            for raw_uid in raw_uids
            for each in catalog.find(Query(raw_uid=raw_uid), limit=MOST_ANSWERS)
        }
    except (httpx.HTTPError, OSError, PublishError) as error:
        logger.warning("the predictions could not be asked for: %s", error)
        return Seen(error=f"the server of the predictions could not be asked: {error}")
    return Seen(predictions=tuple(found.values()))


def awaited(looking: Callable[[], Seen], question: Question) -> Steps[dict[str, Answer]]:
    """Wait until each trial has its answer or will have none, and no longer than is allowed.

    Parameters
    ----------
    looking
        Asks what there is of the raw runs; called in a thread.
    question
        What is waited for, and how long.

    Returns
    -------
    dict
        Answers by id.
    """
    end = time.monotonic() + question.wanted.timeout
    pause, seen = SHORTEST_PAUSE, Seen(error="the server of the predictions did not answer")
    with_thread = ThreadPoolExecutor(1, thread_name_prefix="xpdml-look")
    try:
        while True:
            seen = yield from _asked(with_thread.submit(looking), end, seen)
            answers = {trial: _answer(seen, question, trial) for trial in question.trials}
            settled = {trial: answer for trial, answer in answers.items() if answer is not None}
            if len(settled) == len(answers):
                return settled
            if time.monotonic() >= end:
                return {trial: settled.get(trial) or _late(seen, question, trial) for trial in answers}
            yield min(pause, max(end - time.monotonic(), GLANCE))
            pause = min(GROWTH * pause, LONGEST_PAUSE)
    finally:
        with_thread.shutdown(wait=False, cancel_futures=True)


def _asked(asked: Future[Seen], end: float, before: Seen) -> Steps[Seen]:
    """Return what the server says, or what it said before where it takes too long."""
    while not asked.done():
        if time.monotonic() >= end:
            return before
        yield GLANCE
    seen = asked.result()
    return Seen(predictions=before.predictions, error=seen.error) if seen.error else seen


def of_trial(found: Sequence[PublishedPrediction], wanted: Wanted, trial: str) -> list[PublishedPrediction]:
    """Return the predictions that belong to a trial: those that name it, and joint ones with a run of it.

    Parameters
    ----------
    found
        Latest answers to each question.
    wanted
        Names the campaign and the element.
    trial
        Its id.
    """
    named = [each for each in found if _names(each, wanted.campaign, trial)]
    own = {each.raw_uids[0] for each in named if len(each.raw_uids) == 1}
    joint = [each for each in found if "+" in each.technique and own & set(each.raw_uids)]
    both = {each.uid: each for each in (*named, *joint)}.values()
    # A failed run may not have said what element it is of.
    return [each for each in both if wanted.element in {"", each.element} or each.failed]


def that_counts(mine: Sequence[PublishedPrediction], wanted: Wanted) -> PublishedPrediction | None:
    """Return the answer of a trial that counts: one that did not fail, of most raw runs, the newest.

    Parameters
    ----------
    mine
        Predictions that belong to the trial.
    wanted
        Names the technique. Where repeats are not merged, answers with runs of other trials do not count.
    """
    of_technique = [each for each in mine if each.technique == wanted.technique]
    if wanted.alone and all(each.failed for each in of_technique):
        of_technique = _alone(mine, wanted) or of_technique
    if "+" not in wanted.technique and not wanted.merged_within:
        own = {each.raw_uids[0] for each in mine if len(each.raw_uids) == 1}
        of_technique = [each for each in of_technique if own.issuperset(each.raw_uids)]
    return max(of_technique, key=lambda each: (not each.failed, len(each.raw_uids), each.time), default=None)


def _alone(mine: Sequence[PublishedPrediction], wanted: Wanted) -> list[PublishedPrediction]:
    """Return the answers of the part that may count alone; none where the other part has answers as well."""
    parts = [each for each in mine if each.technique in wanted.technique.split("+")]
    others = [each for each in parts if each.technique != wanted.alone]
    return (
        [each for each in parts if each.technique == wanted.alone]
        if all(each.failed for each in others)
        else []
    )


def _names(prediction: PublishedPrediction, campaign: str, trial: str) -> bool:
    said: Mapping[str, object] = prediction.origin.trial
    return str(said.get("id", "")) == trial and campaign in {"", said.get("campaign")}


def _answer(seen: Seen, question: Question, trial: str) -> Answer | None:
    """Return the answer of a trial if it is settled."""
    wanted, mine = question.wanted, _mine(seen.predictions, question, trial)
    answered = set(question.raw_uids) <= {uid for each in seen.predictions for uid in each.raw_uids}
    counts = that_counts(mine, wanted)
    joint = counts is not None and "+" in counts.technique
    if counts is not None and (joint or answered or len(question.raw_uids) == len(question.trials)):
        since = question.since.setdefault(trial, time.monotonic())
        merged = joint or counts.failed or len(counts.raw_uids) > 1
        if merged or time.monotonic() - since >= wanted.merged_within:
            return told(counts)
    if counts is None and answered:
        return hopeless(mine, wanted)
    return None


def _mine(found: Sequence[PublishedPrediction], question: Question, trial: str) -> list[PublishedPrediction]:
    wanted = question.wanted
    mine = of_trial(found, wanted, trial)
    if len(question.trials) == 1:
        # With one trial, what was measured belongs to it, unless it says otherwise.
        unnamed = [
            each
            for each in found
            if (not trial or not each.origin.trial) and (wanted.element in {"", each.element} or each.failed)
        ]
        mine = list({each.uid: each for each in (*mine, *unnamed)}.values())
    return mine


def hopeless(mine: Sequence[PublishedPrediction], wanted: Wanted) -> Answer | None:
    """Return that no answer will come, where one that matters failed; None where that cannot be told.

    Parameters
    ----------
    mine
        Predictions that belong to the trial, none of them of the wanted technique.
    wanted
        Names the technique.
    """
    for part in wanted.technique.split("+"):
        answers = [each for each in mine if each.technique == part]
        if answers and all(each.failed for each in answers):
            return told(answers[0])
    if mine and all(each.failed for each in mine):
        return told(mine[0])
    return None


def _late(seen: Seen, question: Question, trial: str) -> Answer:
    """Return what there is at the end of the time."""
    wanted = question.wanted
    counts = that_counts(_mine(seen.predictions, question, trial), wanted)
    if counts is not None:
        return told(counts)
    why = seen.error or "the runs were not analysed, or not by a callback that publishes here"
    return Answer(prediction=None, reason=f"no {wanted.technique} in {wanted.timeout:g} s: {why}")


def told(prediction: PublishedPrediction) -> Answer:
    """Return what a prediction says of its trial.

    Parameters
    ----------
    prediction
        Of the wanted technique, or the failed one because of which there is none.
    """
    if not prediction.failed:
        return Answer(prediction=prediction)
    said = "; ".join(prediction.quality.reasons) or "no reason is given"
    return Answer(prediction=prediction, reason=f"{prediction.technique} failed: {said}")
