"""An acquisition plan for bluesky-adaptive: measures what an optimizer suggests."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.answers import wait_in_plan
from bluesky_xpdml.planning.evaluation import SEPARATOR, DescriptorEvaluation, split_uids
from bluesky_xpdml.planning.trials import trial_metadata

RUN_KEY = "xpdml_acquire"
"""Run key of the measurements, beside the optimization; plans with several open runs set their own."""

Plan: TypeAlias = Generator[Any, Any, Any]
Measure: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Plan]
"""Plan of one measurement, of a suggestion and the `md` of its runs; returns the run's uid, or a sequence."""


class Acquire:
    """An `AcquisitionPlan` of bluesky-adaptive whose runs name their trial.

    For each suggestion it moves the actuators that the suggestion names, and measures. It returns the uids of
    all runs as one text, which `DescriptorEvaluation` reads and an event stream can store. Exceptions of the
    plan are not caught: bluesky-adaptive registers the suggestions as failed and stops.

    Parameters
    ----------
    measure
        Plan of one measurement: called with the suggestion and the `md` that its runs must carry, it returns
        the uid of its run, or a sequence of uids.
    campaign
        Name of the campaign.
    wait_with
        The evaluation, to wait for the predictions in the plan, where the RunEngine can be paused. If None,
        the evaluation blocks the RunEngine while it waits.

    Raises
    ------
    PlanningError
        If the campaign has no name.

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
        """Measure suggestions and return the uids of the runs, separated by commas.

        Actuators that a suggestion names are moved. Sensors are ignored: the plan of the measurement has its
        own detectors. The `md` is added to the start documents.
        """
        from bluesky import preprocessors

        uids: list[str] = []
        for suggestion in suggestions:
            one = self._acquire_one(suggestion, actuators, md or {})
            # The optimization is a run too: messages without a key would go into it.
            uids += yield from preprocessors.set_run_key_wrapper(one, RUN_KEY)
        uid = SEPARATOR.join(uids)
        if self._wait_with is not None:
            yield from wait_in_plan(self._wait_with.wait(uid, suggestions))
        return uid

    def _acquire_one(
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
        result = yield from self._measure(suggestion, {**md, **trial_metadata(self._campaign, suggestion)})
        return returned_uids(result)


def returned_uids(result: object) -> tuple[str, ...]:
    """Return the uids that the plan of a measurement returned; a `PlanningError` if there are none."""
    uids = split_uids(result) if isinstance(result, str | list | tuple) else ()
    if not uids or "None" in uids:
        msg = f"expected a plan that returns the uid of its run, found {result!r}: end it with `return uid`"
        raise PlanningError(msg)
    return uids
