"""After a restart: what a campaign has answered is learned from Tiled alone."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.answers import Answer, Wanted, hopeless, of_trial, that_counts, told
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation
from bluesky_xpdml.planning.trials import QUALITY
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.records import Verdict

logger = logging.getLogger(__name__)

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
