"""`xpdml plan`: a planner that adds measurements to the queue of an RE manager, in a process of its own."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from math import isnan
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, interval, note, print_json, print_line, stopping
from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.vocabulary import Descriptor

if TYPE_CHECKING:
    from bluesky_xpdml.planning.queue.campaign import Campaign
    from bluesky_xpdml.planning.queue.planner import QueuePlanner, StepReport

POLL_INTERVAL = 0.05
"""Pause between two looks for an answer of a person [s]."""


class Approve(StrEnum):
    """Who lets a measurement into the queue."""

    ASK = "ask"
    """A person at this terminal, one measurement after the other."""
    AUTO = "auto"
    """Nobody: the limits are enough."""


class Keyboard:
    """Lines of standard input, read in a thread: the planner goes on while a person decides."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._ended = Event()
        Thread(target=self._read, name="xpdml-keyboard", daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip().lower())
        self._ended.set()

    def line(self) -> str | None:
        """Return the next line, None if there is none yet; a `PlanningError` if the input has ended."""
        ended = self._ended.is_set()
        try:
            return self._lines.get_nowait()
        except Empty:
            if ended:
                raise PlanningError(
                    "expected answers on standard input, found its end: use a terminal that stays open, "
                    "or with --approve auto"
                ) from None
            return None


class StepPrinter:
    """Prints what the planner does: on stdout what it asked and learned, on stderr why it waits."""

    def __init__(self, campaign: "Campaign", *, json: bool) -> None:
        self._units = {each.name: each.unit for each in campaign.space.parameters}
        self._descriptor = Descriptor(campaign.question.descriptor)
        self._json = json
        self._note = ""

    def step(self, report: "StepReport") -> None:
        """Print what a step found and did; nothing if that is nothing."""
        if report.note != self._note:
            self._note = report.note
            note(f"waiting: {report.note}" if report.note else "going on")
        for suggestion in report.added:
            self.line("added", suggestion["_id"], self._parameters(suggestion), "")
        for outcome in report.answered:
            numbers = {key: each for key, each in outcome.items() if key not in {"_id", *self._units}}
            answer = self._answer(outcome)
            self.line("answered", outcome["_id"], self._parameters(outcome), answer, **numbers)
        for trial, reason in report.failed:
            self.line("failed", trial, {}, reason, reason=reason)
        for trial in report.removed:
            self.line("removed", trial, {}, "taken out of the queue by a person")

    def line(
        self, event: str, trial: str, parameters: Mapping[str, float], text: str, **more: object
    ) -> None:
        """Print one line about a trial."""
        if self._json:
            plain = {
                key: None if isinstance(each, float) and isnan(each) else each for key, each in more.items()
            }
            print_json({"event": event, "trial": trial, "parameters": dict(parameters), **plain})
        else:
            print_line(event, trial, self.shown(parameters), text)

    def shown(self, parameters: Mapping[str, float]) -> str:
        """Return the parameters of a trial with their units."""
        found = (
            f"{name} {parameters[name]:.5g} {unit}".rstrip()
            for name, unit in self._units.items()
            if name in parameters
        )
        return ", ".join(found)

    def _answer(self, outcome: Mapping[str, Any]) -> str:
        name = self._descriptor
        found = {"value": outcome[name], "low": outcome[f"{name}_low"], "high": outcome[f"{name}_high"]}
        return f"{name.label} {interval(found)} {name.symbol}".rstrip() + f"  {outcome['quality']}"

    def _parameters(self, values: Mapping[str, Any]) -> dict[str, float]:
        return {name: values[name] for name in self._units}


class Approval:
    """Shows one proposal after the other, on stderr or as JSON on stdout, and takes the answers."""

    def __init__(self, planner: "QueuePlanner", printer: StepPrinter, *, json: bool) -> None:
        self._planner, self._printer, self._json = planner, printer, json
        self._keyboard = Keyboard()
        self._shown = ""

    def answer(self) -> bool:
        """Show the next proposal, take an answer if there is one, and return whether there was."""
        if not self._planner.proposals:
            self._shown = ""
            return False
        proposal = self._planner.proposals[0]
        trial = str(proposal["_id"])
        parameters = {name: each for name, each in proposal.items() if name != "_id"}
        if trial != self._shown:
            self._shown = trial
            if self._json:
                self._printer.line("proposed", trial, parameters, "")
            note(f"measure {self._printer.shown(parameters)}? y or n")
        answer = self._keyboard.line()
        if answer is None:
            return False
        if answer not in {"y", "yes", "n", "no"}:
            note(f"expected y or n, found {answer!r}")
            return False
        if answer[0] == "y":
            self._planner.approve(trial)
        else:
            self._planner.reject(trial)
            self._printer.line("rejected", trial, parameters, "")
        return True


def plan(
    campaign: Annotated[Path, typer.Argument(help="File of the campaign (TOML).")],
    *,
    approve: Annotated[
        Approve,
        typer.Option(help="Who lets a measurement into the queue: a person at this terminal, or nobody."),
    ] = Approve.ASK,
    pause: Annotated[
        float, typer.Option(help="Pause between two looks at queue and Tiled [s].", min=0.05)
    ] = 1.0,
    tiled: options.Tiled = "",
    into: options.Predictions = "",
    api_key: options.Key = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Add measurements to the queue of an RE manager until the campaign has its answer.

    One line per measurement on stdout when it is added and when it is answered or has failed; on stderr why
    the planner waits. It ends by itself with exit status 0, or at SIGTERM or Ctrl-C; what is queued stays in
    the queue, and a planner that is started again continues.
    """
    from bluesky_xpdml.planning.queue.campaign import read_campaign

    found = read_campaign(campaign)
    resolved = options.require_server(options.resolve_options(settings, tiled__uri=tiled, tiled__path=into))
    printer = StepPrinter(found, json=json)
    ask = approve is Approve.ASK
    with stopping() as stop, _planner(found, resolved, api_key, ask=ask) as planner:
        note(f"planning {found.question.campaign} through {found.access.address}")
        approval = Approval(planner, printer, json=json) if ask else None
        last = _follow(planner, printer, approval, stop, pause=pause)
    if last.finished:
        note(f"finished after {last.measured} measurements: {last.enough}")
    else:
        note("stopped; what the campaign has in the queue stays there")


def _follow(
    planner: "QueuePlanner", printer: StepPrinter, approval: Approval | None, stop: Event, *, pause: float
) -> "StepReport":
    """Take steps until it is finished or stopped, and at once when a person has answered."""
    last: list[StepReport] = []

    def report(step: "StepReport") -> None:
        last[:] = [step]
        printer.step(step)
        end = time.monotonic() + pause
        while approval is not None and not step.finished and not stop.is_set() and time.monotonic() < end:
            if approval.answer():
                return
            time.sleep(POLL_INTERVAL)

    return planner.run(stop, pause=POLL_INTERVAL if approval is not None else pause, report=report)


@contextmanager
def _planner(
    campaign: "Campaign", settings: Settings, api_key: str | None, *, ask: bool
) -> Iterator["QueuePlanner"]:
    """Give a planner whose connections are closed at the end."""
    from bluesky_xpdml.planning.queue.client import RunQueue
    from bluesky_xpdml.planning.queue.planner import QueuePlanner
    from bluesky_xpdml.publish.predictions import PredictionCatalog

    optimizer = campaign.new_optimizer()
    with ExitStack() as closing:
        queue = RunQueue(campaign.access, api_key=os.environ.get(campaign.api_key_variable) or None)
        closing.callback(queue.close)
        catalog = PredictionCatalog.from_uri(
            settings.tiled_uri, api_key=api_key or settings.api_key(), path=settings.tiled_path
        )
        closing.callback(catalog.close)
        yield QueuePlanner(
            optimizer,
            catalog,
            queue,
            plan=campaign.plan,
            question=campaign.question,
            limits=campaign.limits,
            ask=ask,
        )
