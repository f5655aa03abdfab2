"""Measuring what an optimizer suggests: an acquisition plan for bluesky-adaptive."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.answers import in_plan
from bluesky_xpdml.planning.evaluation import SEPARATOR, DescriptorEvaluation, split_uids
from bluesky_xpdml.planning.trials import trial_metadata

RUN_KEY = "xpdml_acquire"
"""Under which runs are open, beside that of the optimization; plans with several at once name their own."""

Plan: TypeAlias = Generator[Any, Any, Any]
Measure: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Plan]
"""Plan of one measurement, of a suggestion and the `md` of its runs; returns the run's uid, or a sequence."""


class Acquire:
    """An `AcquisitionPlan` of bluesky-adaptive whose runs say which trial they are.

    For each suggestion it moves the actuators that the suggestion names, and measures. It returns the uids of
    all runs as one text, which `DescriptorEvaluation` reads and an event stream can store. An exception of a
    plan is let through: bluesky-adaptive registers the suggestions as failed and stops.

    Parameters
    ----------
    measure
        Plan of one measurement: called with the suggestion and the `md` that its runs must carry, it returns
        the uid of its run, or a sequence of uids.
    campaign
        Name of the campaign.
    wait_with
        Wait for the predictions in the plan, where the RunEngine can be paused meanwhile; else the evaluation
        waits, and the RunEngine with it. None where the evaluation is not a `DescriptorEvaluation`.

    Examples
    --------
    >>> from bluesky import RunEngine, plan_stubs, preprocessors
    >>> def measure(suggestion, md):
    ...     return (yield from preprocessors.run_wrapper(plan_stubs.null(), md=md))
    >>> acquire = Acquire(measure, campaign="front-7", wait_with=None)
    >>> starts = []
    >>> engine = RunEngine({}, call_returns_result=True)
    >>> _ = engine.subscribe(lambda name, document: starts.append(document), "start")
    >>> uid = engine(acquire([{"_id": "a1", "temperature": 512.0}], [])).plan_result
    >>> uid == starts[0]["uid"], starts[0]["xpdml_trial"]["id"]
    (True, 'a1')
    """

    def __init__(self, measure: Measure, *, campaign: str, wait_with: DescriptorEvaluation | None) -> None:
        if not campaign:
            raise PlanningError("expected the name of a campaign, found ''")
        self._measure = measure
        self._campaign = campaign
        self._wait_with = wait_with

    def __call__(
        self,
        suggestions: Sequence[Mapping[str, Any]],
        actuators: Sequence[Any],
        sensors: Sequence[Any] | None = None,  # noqa: ARG002, of the protocol
        md: Mapping[str, Any] | None = None,
    ) -> Generator[Any, Any, str]:
        """Measure suggestions and return the uids of the runs, with commas between.

        Parameters
        ----------
        suggestions
            With `_id`, and a value for each parameter.
        actuators
            Those whose names suggestions hold are moved.
        sensors
            Do not matter: the plan of the measurement knows its own.
        md
            More for the start documents.
        """
        from bluesky import preprocessors

        uids: list[str] = []
        for suggestion in suggestions:
            one = self._one(suggestion, actuators, md or {})
            # Inside the run of an optimization, whose key every message would get that names none.
            uids += yield from preprocessors.set_run_key_wrapper(one, RUN_KEY)
        uid = SEPARATOR.join(uids)
        if self._wait_with is not None:
            yield from in_plan(self._wait_with.waiting(uid, suggestions))
        return uid

    def _one(
        self, suggestion: Mapping[str, Any], actuators: Sequence[Any], md: Mapping[str, Any]
    ) -> Generator[Any, Any, tuple[str, ...]]:
        from bluesky import plan_stubs

        moves = [
            step
            for actuator in actuators
            if actuator.name in suggestion
            for step in (actuator, suggestion[actuator.name])
        ]
        if moves:
            yield from plan_stubs.mv(*moves)
        said = yield from self._measure(suggestion, {**md, **trial_metadata(self._campaign, suggestion)})
        return measured_uids(said)


def measured_uids(said: object) -> tuple[str, ...]:
    """Return the uids that the plan of a measurement returned.

    Parameters
    ----------
    said
        One uid, or a sequence.

    Raises
    ------
    PlanningError
        If it returned none: nothing could be waited for.
    """
    uids = split_uids(said) if isinstance(said, str | list | tuple) else ()
    if not uids or "None" in uids:
        msg = f"expected a plan that returns the uid of its run, found {said!r}: end it with `return uid`"
        raise PlanningError(msg)
    return uids
