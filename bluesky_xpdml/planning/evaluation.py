"""From the uid of a measurement to the outcomes that an optimizer learns from, by way of predictions only."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan
from typing import Any, Protocol

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.answers import (
    Answer,
    AnswerCriteria,
    AnswerRequest,
    Pauses,
    answer_from,
    final_failure,
    is_joint,
    predictions_of_trial,
    query_answers,
    select_answer,
    wait_blocking,
    wait_for_answers,
)
from bluesky_xpdml.planning.trials import ID, NOVELTY, QUALITY, choice, outcome_keys, outcome_numbers
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.vocabulary import Descriptor, Technique

logger = logging.getLogger(__name__)

MAX_PREDICTIONS = 100_000
"""Predictions of one campaign that are read."""
SEPARATOR = ","
"""Between the uids of an acquisition of several runs: an event stream stores one text."""


class Learner(Protocol):
    """An optimizer that can learn of failures."""

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Learn from outcomes."""

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Register failed trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredTrials:
    """The trials that an optimizer learned of after a restart."""

    answered: tuple[str, ...]
    """Ids of the trials with an answer, in the order of the answers."""
    failed: tuple[str, ...]
    """Ids of the failed ones."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Why trials could not be used, by id: they name no parameters, or other ones."""


class DescriptorEvaluation:
    """An `EvaluationFunction` of bluesky-adaptive that reads predictions.

    Called with the uids of the measured runs and the suggestions, it waits for their predictions and returns
    an outcome for each suggestion: `_id`; each descriptor, with `_low` and `_high` for its 90 % interval;
    `novelty`; and `quality`: `good`, `suspect` or `failed`. The entries are always the same, and the numbers
    of a failed trial are NaN. A failed prediction, a missing descriptor, no prediction in time and an
    unreachable server are failed trials; `reasons` says why, by id. Nothing is raised for them.

    Parameters
    ----------
    catalog
        Where the predictions are.
    descriptors
        Names of the descriptors in the outcomes.
    technique
        `xanes`, `pdf`, `dpdf`, or of both: `xanes+pdf`, `xanes+dpdf`.
    timeout
        Longest wait for a prediction [s].
    campaign
        As in the `trial_metadata` of the runs; empty for any.
    element
        If a run may contain several; empty for any.
    alone
        Of a joint technique, the part whose answer counts if a trial was measured by it alone, or the other
        part failed; empty if both parts are needed.
    merged_within
        If the callback merges repeats: how long to wait for the merged answer after a run's own answer [s].

    Raises
    ------
    PlanningError
        If there is no descriptor, a descriptor or technique is unknown, or `alone` is no part of a joint
        technique.
    """

    def __init__(
        self,
        catalog: PredictionCatalog,
        descriptors: Sequence[str] = (Descriptor.OXIDATION_STATE,),
        *,
        technique: str = Technique.XANES,
        timeout: float = 120.0,
        campaign: str = "",
        element: str = "",
        alone: str = "",
        merged_within: float = 0.0,
    ) -> None:
        if not descriptors or isinstance(descriptors, str):
            msg = f"expected names of descriptors, such as ('oxidation_state',), found {descriptors!r}"
            raise PlanningError(msg)
        if alone and (not is_joint(choice(Technique, technique)) or alone not in Technique(technique).parts):
            raise PlanningError(
                f"expected alone to be a part of a joint technique, found {alone!r} of {technique}"
            )
        self.catalog = catalog
        self.descriptors = tuple(choice(Descriptor, name) for name in descriptors)
        self.criteria = AnswerCriteria(
            technique=choice(Technique, technique),
            timeout=timeout,
            element=element,
            campaign=campaign,
            alone=Technique(alone) if alone else None,
            merged_within=merged_within,
        )
        self.reasons: dict[Any, str] = {}
        """Why trials failed, by id."""
        self._ready: dict[str, list[dict[str, Any]]] = {}

    def __call__(
        self, uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return an outcome for each suggestion, in their order.

        The uid is that of the raw run; of several runs a sequence, or one text with commas between.
        """
        outcomes = self._ready.pop(_request_key(uid, suggestions), None)
        return outcomes if outcomes is not None else wait_blocking(self._outcomes(uid, suggestions))

    def wait(self, uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]) -> Pauses[None]:
        """Wait for the predictions, so that a call with the same arguments returns at once.

        The generator yields pauses [s]; `answers.wait_in_plan` passes them to the RunEngine.
        """
        outcomes = yield from self._outcomes(uid, suggestions)
        self._ready[_request_key(uid, suggestions)] = outcomes

    def outcome(self, identifier: Any, answer: Answer) -> dict[str, Any]:
        """Return the outcome of one trial by its `_id` and its answer; note why it failed, if it did."""
        prediction, reason = answer.prediction, answer.reason
        if prediction is not None and not reason:
            missing = [name for name in self.descriptors if name not in prediction.descriptors]
            reason = f"the prediction holds no {', '.join(missing)}" if missing else ""
        if reason or prediction is None:
            logger.warning("trial %s failed: %s", identifier, reason)
            self.reasons[identifier] = reason
            return self._failed_outcome(identifier)
        self.reasons.pop(identifier, None)
        return self._failed_outcome(identifier) | self._numbers(prediction)

    def _outcomes(
        self, uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]
    ) -> Pauses[list[dict[str, Any]]]:
        uids = split_uids(uid)
        trials = [str(suggestion[ID]) for suggestion in suggestions]
        request = AnswerRequest(criteria=self.criteria, raw_uids=uids, trials=trials)
        answers = yield from wait_for_answers(partial(query_answers, self.catalog, uids), request)
        return [
            self.outcome(suggestion[ID], answers[trial])
            for suggestion, trial in zip(suggestions, trials, strict=True)
        ]

    def _failed_outcome(self, identifier: Any) -> dict[str, Any]:
        numbers = [key for name in self.descriptors for key in outcome_keys(name)]
        return {
            ID: identifier,
            **dict.fromkeys(numbers, nan),
            NOVELTY: nan,
            QUALITY: str(Verdict.FAILED),
        }

    def _numbers(self, prediction: PublishedPrediction) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        for name in self.descriptors:
            numbers |= outcome_numbers(name, prediction.descriptors[name])
        novelty = prediction.diagnostics.get("novelty_score", nan)
        return numbers | {NOVELTY: float(novelty), QUALITY: str(prediction.quality.verdict)}


def split_uids(uid: str | Sequence[str]) -> tuple[str, ...]:
    """Return the uids of an acquisition: one uid, several separated by commas, or a sequence."""
    parts = uid.split(SEPARATOR) if isinstance(uid, str) else [str(each) for each in uid]
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _request_key(uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]) -> str:
    return SEPARATOR.join((*split_uids(uid), *(str(suggestion[ID]) for suggestion in suggestions)))


def restore(optimizer: Learner, evaluation: DescriptorEvaluation) -> RestoredTrials:
    """Let an optimizer learn all answers that its campaign has in Tiled; nothing counts twice.

    Each trial counts with its latest answer, selected as the evaluation does. The function may be called
    again at any time and adds new answers. Trials that were suggested but not answered are forgotten: the
    optimizer suggests new ones.

    Parameters
    ----------
    optimizer
        A new one, or one that knows some of the campaign's trials.
    evaluation
        Reads the predictions; names the campaign, the technique and the descriptors.

    Raises
    ------
    PlanningError
        If the evaluation names no campaign.
    PublishError
        If the server is unreachable.
    """
    criteria = evaluation.criteria
    if not criteria.campaign:
        raise PlanningError("expected the evaluation of one campaign, found campaign = '': name it")
    predictions = evaluation.catalog.find(Query(campaign=criteria.campaign), limit=MAX_PREDICTIONS)
    answered: list[str] = []
    failed: list[str] = []
    unusable: dict[str, str] = {}
    for trial, answer in _answers_by_trial(predictions, criteria).items():
        outcome = evaluation.outcome(trial, answer)
        parameters = answer.prediction.origin.trial.get("parameters") if answer.prediction else None
        point = {**(parameters if isinstance(parameters, Mapping) else {}), **outcome}
        is_failed = outcome[QUALITY] == Verdict.FAILED
        try:
            if is_failed:
                optimizer.register_failures([point])
            else:
                optimizer.ingest([point])
        except PlanningError as error:
            logger.warning("trial %s of %s cannot be used: %s", trial, criteria.campaign, error)
            unusable[trial] = str(error)
            continue
        (failed if is_failed else answered).append(trial)
    return RestoredTrials(answered=tuple(answered), failed=tuple(failed), unusable=unusable)


def _answers_by_trial(
    predictions: Sequence[PublishedPrediction], criteria: AnswerCriteria
) -> dict[str, Answer]:
    """Return the answer to each trial, in the order of the answers; trials that may get one are left out."""
    trials = dict.fromkeys(str(each.origin.trial["id"]) for each in predictions if "id" in each.origin.trial)
    answers: list[tuple[str, Answer]] = []
    for trial in trials:
        of_trial = predictions_of_trial(predictions, criteria, trial)
        selected = select_answer(of_trial, criteria)
        answer = final_failure(of_trial, criteria) if selected is None else answer_from(selected)
        if answer is not None:
            answers.append((trial, answer))
    return dict(sorted(answers, key=_answer_time))


def _answer_time(item: tuple[str, Answer]) -> float:
    prediction = item[1].prediction
    return 0.0 if prediction is None else prediction.time
