"""Waiting for predictions: which prediction answers a trial, and when none will come any more.

Waiting is a generator that yields pauses [s]: `wait_blocking` sleeps through them, `wait_in_plan` passes them
to the RunEngine, which stays interruptible. The catalog is queried in a thread, so that a server that does
not respond holds up neither.
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
from bluesky_xpdml.publish.tiled import require_health
from bluesky_xpdml.vocabulary import Technique

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Pauses = Generator[float, None, Result]
"""Yields pauses [s], returns what was waited for."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Between two queries [s]; it grows while nothing comes."""
GROWTH = 1.3
POLL_INTERVAL = 0.02
"""Between two checks whether a query has returned [s]."""
MAX_ANSWERS = 1000
"""Predictions of one raw run that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCriteria:
    """Which prediction answers a trial, and how long to wait for it."""

    technique: Technique
    timeout: float
    """Longest wait [s]."""
    element: str = ""
    """If a run may contain several; empty for any."""
    campaign: str = ""
    """Trials of other campaigns do not count; empty for any."""
    alone: Technique | None = None
    """Of a joint technique, the part whose answer counts if nothing else was measured, or the other part
    failed; None if both parts are needed."""
    merged_within: float = 0.0
    """If the callback merges repeats: how long to wait for the merged answer after a run's own answer [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one trial, or why there is none."""

    prediction: PublishedPrediction | None
    """The prediction that answers, or that failed; None if none came."""
    reason: str = ""
    """Why there is no usable answer; empty if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Predictions about some raw runs."""

    predictions: Sequence[PublishedPrediction] = ()
    error: str = ""
    """Why the query failed; empty if it succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """Trials that wait for their answers."""

    criteria: AnswerCriteria
    raw_uids: Sequence[str]
    """Start uids of the raw runs of all trials."""
    trials: Sequence[str]
    """Ids. A single trial also owns predictions that name no trial; the id `""` owns all."""
    first_seen: dict[str, float] = field(default_factory=dict)
    """When an answer to each trial was first seen [monotonic s]; filled while waiting."""


def is_joint(technique: str) -> bool:
    """Return whether a technique combines two measurements."""
    return len(Technique(technique).parts) > 1


def wait_blocking(pauses: Pauses[Result]) -> Result:
    """Wait in this thread and return the result."""
    while True:
        try:
            time.sleep(next(pauses))
        except StopIteration as end:
            result: Result = end.value
            return result


def wait_in_plan(pauses: Pauses[Result]) -> Generator[Any, Any, Result]:
    """Wait in a plan, for example for `DescriptorEvaluation.wait`.

    The RunEngine sleeps, and can be paused, stopped and suspended meanwhile.
    """
    from bluesky import plan_stubs

    # A RunEngine that is paused while it waits does not repeat the measurement.
    yield from plan_stubs.checkpoint()
    while True:
        try:
            pause = next(pauses)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield from plan_stubs.sleep(pause)


def query_answers(catalog: PredictionCatalog, raw_uids: Sequence[str]) -> QueryResult:
    """Return the latest predictions about raw runs; if the server is unreachable, an error within seconds."""
    import httpx

    try:
        require_health(catalog.container)
        found = {
            prediction.uid: prediction
            for raw_uid in raw_uids
            for prediction in catalog.find(Query(raw_uid=raw_uid), limit=MAX_ANSWERS)
        }
    except (httpx.HTTPError, OSError, PublishError) as error:
        logger.warning("the query for predictions failed: %s", error)
        return QueryResult(error=f"the server of the predictions could not be queried: {error}")
    return QueryResult(predictions=tuple(found.values()))


def wait_for_answers(query: Callable[[], QueryResult], request: AnswerRequest) -> Pauses[dict[str, Answer]]:
    """Query, in a thread, until each trial, by id, has its answer, or none will come, or the timeout."""
    end = time.monotonic() + request.criteria.timeout
    pause, result = SHORTEST_PAUSE, QueryResult(error="the server of the predictions did not respond")
    thread = ThreadPoolExecutor(1, thread_name_prefix="xpdml-query")
    try:
        while True:
            result = yield from _result_of(thread.submit(query), end, result)
            answers = {trial: _settled_answer(result, request, trial) for trial in request.trials}
            settled = {trial: answer for trial, answer in answers.items() if answer is not None}
            if len(settled) == len(answers):
                return settled
            if time.monotonic() >= end:
                return {
                    trial: settled.get(trial) or _late_answer(result, request, trial) for trial in answers
                }
            yield min(pause, max(end - time.monotonic(), POLL_INTERVAL))
            pause = min(GROWTH * pause, LONGEST_PAUSE)
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _result_of(query: Future[QueryResult], end: float, previous: QueryResult) -> Pauses[QueryResult]:
    """Return the result of a query, or the previous one if the query takes too long."""
    while not query.done():
        if time.monotonic() >= end:
            return previous
        yield POLL_INTERVAL
    result = query.result()
    return QueryResult(predictions=previous.predictions, error=result.error) if result.error else result


def predictions_of_trial(
    predictions: Sequence[PublishedPrediction], criteria: AnswerCriteria, trial: str
) -> list[PublishedPrediction]:
    """Return the predictions that name a trial, and joint ones that contain a run of it."""
    named = [each for each in predictions if _names_trial(each, criteria.campaign, trial)]
    own = {each.raw_uids[0] for each in named if len(each.raw_uids) == 1}
    joint = [each for each in predictions if is_joint(each.technique) and own & set(each.raw_uids)]
    unique = {each.uid: each for each in (*named, *joint)}.values()
    return [each for each in unique if _is_of_element(each, criteria)]


def _names_trial(prediction: PublishedPrediction, campaign: str, trial: str) -> bool:
    metadata: Mapping[str, object] = prediction.origin.trial
    return str(metadata.get("id", "")) == trial and campaign in {"", metadata.get("campaign")}


def _is_of_element(prediction: PublishedPrediction, criteria: AnswerCriteria) -> bool:
    """Return whether a prediction may be of the element: a failed run may not state its element."""
    return criteria.element in {"", prediction.element} or prediction.failed


def select_answer(
    predictions: Sequence[PublishedPrediction], criteria: AnswerCriteria
) -> PublishedPrediction | None:
    """Return the prediction of a trial that counts: no failure, of most raw runs, of the highest rank.

    Unless repeats are merged, answers that contain runs of other trials do not count.
    """
    candidates = [each for each in predictions if each.technique == criteria.technique]
    if criteria.alone is not None and all(each.failed for each in candidates):
        candidates = _answers_of_one_part(predictions, criteria) or candidates
    if not is_joint(criteria.technique) and not criteria.merged_within:
        own = {each.raw_uids[0] for each in predictions if len(each.raw_uids) == 1}
        candidates = [each for each in candidates if own.issuperset(each.raw_uids)]
    return max(candidates, key=lambda each: (not each.failed, len(each.raw_uids), each.rank), default=None)


def _answers_of_one_part(
    predictions: Sequence[PublishedPrediction], criteria: AnswerCriteria
) -> list[PublishedPrediction]:
    """Return the answers of the part that may count alone; none if the other part has answers as well."""
    parts = [each for each in predictions if each.technique in criteria.technique.parts]
    if not all(each.failed for each in parts if each.technique != criteria.alone):
        return []
    return [each for each in parts if each.technique == criteria.alone]


def _settled_answer(result: QueryResult, request: AnswerRequest, trial: str) -> Answer | None:
    """Return the answer to a trial; None while a better one may come."""
    criteria, predictions = request.criteria, _owned_predictions(result.predictions, request, trial)
    answered_uids = {uid for each in result.predictions for uid in each.raw_uids}
    all_answered = answered_uids.issuperset(request.raw_uids)
    selected = select_answer(predictions, criteria)
    if selected is None:
        return final_failure(predictions, criteria) if all_answered else None
    joint = is_joint(selected.technique)
    if not (joint or all_answered or len(request.raw_uids) == len(request.trials)):
        return None
    first_seen = request.first_seen.setdefault(trial, time.monotonic())
    final = joint or selected.failed or len(selected.raw_uids) > 1
    if final or time.monotonic() - first_seen >= criteria.merged_within:
        return answer_from(selected)
    return None


def _owned_predictions(
    predictions: Sequence[PublishedPrediction], request: AnswerRequest, trial: str
) -> list[PublishedPrediction]:
    """Return the predictions of a trial; a single trial also owns those that name no trial."""
    owned = predictions_of_trial(predictions, request.criteria, trial)
    if len(request.trials) > 1:
        return owned
    unnamed = [
        each
        for each in predictions
        if (not trial or not each.origin.trial) and _is_of_element(each, request.criteria)
    ]
    return list({each.uid: each for each in (*owned, *unnamed)}.values())


def final_failure(predictions: Sequence[PublishedPrediction], criteria: AnswerCriteria) -> Answer | None:
    """Return the failure because of which no answer will come; None if one may still come.

    The predictions are those of a trial, none of them of the requested technique.
    """
    for part in criteria.technique.parts:
        answers = [each for each in predictions if each.technique == part]
        if answers and all(each.failed for each in answers):
            return answer_from(answers[0])
    if predictions and all(each.failed for each in predictions):
        return answer_from(predictions[0])
    return None


def _late_answer(result: QueryResult, request: AnswerRequest, trial: str) -> Answer:
    """Return the best answer at the timeout."""
    criteria = request.criteria
    selected = select_answer(_owned_predictions(result.predictions, request, trial), criteria)
    if selected is not None:
        return answer_from(selected)
    why = result.error or "the runs were not analysed, or not by a callback that publishes here"
    return Answer(prediction=None, reason=f"no {criteria.technique} in {criteria.timeout:g} s: {why}")


def answer_from(prediction: PublishedPrediction) -> Answer:
    """Return the answer that a prediction gives: a usable one, or the reason of the failure."""
    if not prediction.failed:
        return Answer(prediction=prediction)
    reasons = "; ".join(prediction.quality.reasons) or "no reason is given"
    return Answer(prediction=prediction, reason=f"{prediction.technique} failed: {reasons}")
