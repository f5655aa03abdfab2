"""What a planner may put into a queue: how much of it, and which plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.trials import trial_metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a planner may go. The budgets are those of the campaign: a restart renews none.

    Raises
    ------
    PlanningError
        If a limit is not positive.

    Examples
    --------
    >>> night = Limits(at_most_queued=2, measurements=60, seconds=8 * 3600.0, patience=120.0)
    """

    at_most_queued: int
    """Items of the campaign that wait in the queue, proposals that wait for a person among them."""
    measurements: int
    """Trials that are measured, failed ones among them."""
    seconds: float
    """From the beginning of the first measurement on [s]; nothing is started anew thereafter."""
    patience: float
    """How long after its plan a prediction is waited for before the trial has failed [s]."""

    def __post_init__(self) -> None:
        for name, least in (("at_most_queued", 1), ("measurements", 1), ("seconds", 0.0), ("patience", 0.0)):
            value = getattr(self, name)
            if not value >= least or (least == 0.0 and value == 0.0):
                raise PlanningError(f"expected a limit {name} above {0 if least else '0 s'}, found {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedPlan:
    """The plan that measures one trial.

    It needs no `md`: the RE manager puts the `meta` of an item into the start document of its runs.

    Examples
    --------
    >>> plan = QueuedPlan(name="measure", kwargs={"sample": "LFP"}, keywords={"temperature": "kelvin"})
    >>> item = plan.item("front-7", {"_id": "a1", "temperature": 512.0})
    >>> item["kwargs"]
    {'sample': 'LFP', 'kelvin': 512.0}
    >>> item["meta"]["xpdml_trial"]["id"]
    'a1'
    """

    name: str
    """As the RE manager knows it."""
    args: tuple[Any, ...] = ()
    """The same for all trials."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """The same for all trials."""
    keywords: Mapping[str, str] = field(default_factory=dict)
    """Arguments that take the parameters, by parameter; those that are not here go by their own names."""

    def check(self, space: Space) -> None:
        """Make sure that each parameter has an argument of its own.

        Parameters
        ----------
        space
            Of the campaign.

        Raises
        ------
        PlanningError
            If an unknown parameter is named, or an argument twice.
        """
        unknown = [name for name in self.keywords if name not in space.names]
        if unknown:
            raise PlanningError(
                f"expected keywords for {', '.join(space.names)}, found one for {unknown[0]}: correct it"
            )
        taken = [*self.kwargs, *(self.keywords.get(name, name) for name in space.names)]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise PlanningError(
                f"expected each argument of {self.name} once, found {twice[0]} twice: "
                "take it out of kwargs, or give a parameter another keyword"
            )

    def item(self, campaign: str, suggestion: Mapping[str, Any]) -> dict[str, Any]:
        """Return the item that measures a suggestion.

        Parameters
        ----------
        campaign
            Name of the campaign.
        suggestion
            `_id`, and a value for each parameter.
        """
        metadata = trial_metadata(campaign, suggestion)
        (trial,) = metadata.values()
        values = {self.keywords.get(name, name): value for name, value in trial["parameters"].items()}
        return {
            "name": self.name,
            "args": list(self.args),
            "kwargs": {**self.kwargs, **values},
            "meta": metadata,
        }
