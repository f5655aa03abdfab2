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
    Question,
    Steps,
    Wanted,
    awaited,
    blocking,
    hopeless,
    look,
    of_trial,
    that_counts,
    told,
)
from bluesky_xpdml.planning.trials import ID, NOVELTY, QUALITY
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.records import Verdict

MOST_PREDICTIONS = 100_000
"""Predictions of one campaign that are read."""


class Learner(Protocol):
    """An optimizer that can be told of failures."""

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Learn from outcomes."""

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Take note of failed trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What an optimizer was told after a restart."""

    answered: tuple[str, ...]
    """Ids of the trials with an answer, in the order in which they were answered."""
    failed: tuple[str, ...]
    """Ids of those that failed."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Why trials could not be used, by id: they name no parameters, or others."""


SEPARATOR = ","
"""Between the uids of an acquisition of several runs: one text is what an event stream can store."""


class DescriptorEvaluation:
    """An `EvaluationFunction` of bluesky-adaptive that reads predictions.

    Called with the uids of what was measured and the suggestions, it waits for their predictions and returns
    an outcome for each suggestion: `_id`; each descriptor, with `_low` and `_high` for its 90 % interval;
    `novelty`; and `quality`: `good`, `suspect` or `failed`. The entries are always the same, and the numbers
    of a failed trial are NaN. A failed prediction, a missing descriptor, no prediction in time and a server
    that is away are failed trials; why stands in `reasons`, by id. Nothing is raised for them.

    Parameters
    ----------
    catalog
        Where predictions are.
    descriptors
        Names of those that outcomes hold.
    technique
        `xanes`, `pdf`, `dpdf`, or of both: `xanes+pdf`, `xanes+dpdf`.
    timeout
        No longer than this is waited for a prediction [s].
    campaign
        As in the `trial_metadata` of the runs; empty for any.
    element
        Where a run may hold several; empty for any.
    alone
        Of a joint technique, the part whose answer counts where a trial was measured by it alone, or the
        other part failed; empty for none: then both are needed.
    merged_within
        Where the callback merges repeats: wait so long beyond a run's own answer for that of its series [s].

    Raises
    ------
    PlanningError
        If no descriptor is asked for, or `alone` is no part of a joint technique.
    """

    def __init__(
        self,
        catalog: PredictionCatalog,
        descriptors: Sequence[str] = ("oxidation_state",),
        *,
        technique: str = "xanes",
        timeout: float = 120.0,
        campaign: str = "",
        element: str = "",
        alone: str = "",
        merged_within: float = 0.0,
    ) -> None:
        if not descriptors or isinstance(descriptors, str):
            msg = f"expected names of descriptors, such as ('oxidation_state',), found {descriptors!r}"
            raise PlanningError(msg)
        if alone and ("+" not in technique or alone not in technique.split("+")):
            raise PlanningError(
                f"expected alone to be a part of a joint technique, found {alone!r} of {technique}"
            )
        self.catalog = catalog
        self.descriptors = tuple(descriptors)
        self.wanted = Wanted(
            technique=technique,
            timeout=timeout,
            element=element,
            campaign=campaign,
            alone=alone,
            merged_within=merged_within,
        )
        self.reasons: dict[Any, str] = {}
        """Why trials failed, by id."""
        self._waited: dict[str, list[dict[str, Any]]] = {}

    def __call__(
        self, uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return an outcome for each suggestion, in their order.

        Parameters
        ----------
        uid
            Start uid of the raw run; of several a sequence, or one text with commas between.
        suggestions
            What was measured, with `_id`.
        """
        known = self._waited.pop(_key(uid, suggestions), None)
        return known if known is not None else blocking(self._steps(uid, suggestions))

    def waiting(self, uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]) -> Steps[None]:
        """Wait beforehand: a call with the same arguments then returns at once.

        Parameters
        ----------
        uid, suggestions
            As for the call.

        Returns
        -------
        generator
            Yields pauses [s]; `answers.in_plan` hands them to the RunEngine.
        """
        outcomes = yield from self._steps(uid, suggestions)
        self._waited[_key(uid, suggestions)] = outcomes

    def outcome(self, identifier: Any, answer: Answer) -> dict[str, Any]:
        """Return the outcome of one trial.

        Parameters
        ----------
        identifier
            Its `_id`.
        answer
            What has become of it.
        """
        prediction, reason = answer.prediction, answer.reason
        if prediction is not None and not reason:
            missing = [name for name in self.descriptors if name not in prediction.descriptors]
            reason = f"the prediction holds no {', '.join(missing)}" if missing else ""
        if reason or prediction is None:
            logger.warning("trial %s failed: %s", identifier, reason)
            self.reasons[identifier] = reason
            return self._empty(identifier)
        self.reasons.pop(identifier, None)
        return self._empty(identifier) | self._filled(prediction)

    def _steps(
        self, uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]
    ) -> Steps[list[dict[str, Any]]]:
        uids = split_uids(uid)
        trials = [str(suggestion[ID]) for suggestion in suggestions]
        question = Question(wanted=self.wanted, raw_uids=uids, trials=trials)
        answers = yield from awaited(partial(look, self.catalog, uids), question)
        return [
            self.outcome(suggestion[ID], answers[trial])
            for suggestion, trial in zip(suggestions, trials, strict=True)
        ]

    def _empty(self, identifier: Any) -> dict[str, Any]:
        numbers = [name + end for name in self.descriptors for end in ("", "_low", "_high")]
        return {
            ID: identifier,
            **dict.fromkeys(numbers, nan),
            NOVELTY: nan,
            QUALITY: str(Verdict.FAILED),
        }

    def _filled(self, prediction: PublishedPrediction) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        for name in self.descriptors:
            found = prediction.descriptors[name]
            numbers |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        novelty = prediction.diagnostics.get("novelty_score", nan)
        return numbers | {NOVELTY: float(novelty), QUALITY: str(prediction.quality.verdict)}


def split_uids(uid: str | Sequence[str]) -> tuple[str, ...]:
    """Return the uids of an acquisition.

    Parameters
    ----------
    uid
        One uid, several with commas between, or a sequence.

    Examples
    --------
    >>> split_uids("a,b"), split_uids(["a", "b"]), split_uids("")
    (('a', 'b'), ('a', 'b'), ())
    """
    parts = uid.split(SEPARATOR) if isinstance(uid, str) else [str(each) for each in uid]
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _key(uid: str | Sequence[str], suggestions: Sequence[Mapping[str, Any]]) -> str:
    return SEPARATOR.join((*split_uids(uid), *(str(suggestion[ID]) for suggestion in suggestions)))


def restore(optimizer: Learner, evaluation: DescriptorEvaluation) -> Restored:
    """Tell an optimizer what its campaign has answered already; nothing is counted twice.

    Of each trial the latest answer counts, chosen as the evaluation chooses it. It may be called again at any
    time, and takes in what was answered meanwhile. Trials that were suggested but not answered are forgotten:
    the optimizer suggests anew.

    Parameters
    ----------
    optimizer
        New, or with some of the campaign's trials already.
    evaluation
        Reads the predictions; names the campaign, the technique and the descriptors.

    Raises
    ------
    PlanningError
        If the evaluation names no campaign.
    PublishError
        If the server is away.
    """
    wanted = evaluation.wanted
    if not wanted.campaign:
        raise PlanningError("expected the evaluation of one campaign, found campaign = '': name it")
    found = evaluation.catalog.find(Query(campaign=wanted.campaign), limit=MOST_PREDICTIONS)
    answered: list[str] = []
    failed: list[str] = []
    unusable: dict[str, str] = {}
    for trial, answer in _answers(found, wanted).items():
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
            logger.warning("trial %s of %s cannot be used: %s", trial, wanted.campaign, error)
            unusable[trial] = str(error)
            continue
        (failed if is_failed else answered).append(trial)
    return Restored(answered=tuple(answered), failed=tuple(failed), unusable=unusable)


def _answers(found: Sequence[PublishedPrediction], wanted: Wanted) -> dict[str, Answer]:
    """Return what has become of each trial, in the order in which they were answered."""
    trials = dict.fromkeys(str(each.origin.trial["id"]) for each in found if "id" in each.origin.trial)
    answers: list[tuple[str, Answer]] = []
    for trial in trials:
        mine = of_trial(found, wanted, trial)
        counts = that_counts(mine, wanted)
        answer = hopeless(mine, wanted) if counts is None else told(counts)
        # A trial of which some runs only are answered may still be answered.
        if answer is not None:
            answers.append((trial, answer))
    return dict(sorted(answers, key=_when))


def _when(answered: tuple[str, Answer]) -> float:
    prediction = answered[1].prediction
    return 0.0 if prediction is None else prediction.time


logger = logging.getLogger(__name__)
