"""`xpdml plan`: a planner that adds measurements to the queue of an RE manager, in a process of its own."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, interval, print_json, progress_console, stopping
from bluesky_xpdml.errors import PlanningError, SettingsError
from bluesky_xpdml.settings import resolve_settings

if TYPE_CHECKING:
    from bluesky_xpdml.planning.queue.campaign import Campaign
    from bluesky_xpdml.planning.queue.planner import QueuePlanner, StepReport

LOOK = 0.05
"""Pause between two looks at whether a person answered [s]."""


class Approve(StrEnum):
    """Who lets a measurement into the queue."""

    ASK = "ask"
    """A person at this terminal, one measurement after the other."""
    AUTO = "auto"
    """Nobody: the limits are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where the predictions are."""

    uri: str
    api_key: str | None
    path: str


class Keyboard:
    """Lines of standard input, read in a thread, so that the planner goes on while a person thinks."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._ended = Event()
        Thread(target=self._read, name="xpdml-keyboard", daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip().lower())
        self._ended.set()

    def line(self) -> str | None:
        """Return the next line; None where there is none yet.

        Raises
        ------
        PlanningError
            If none will come any more.
        """
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


class Voice:
    """Says what the planner does: on stdout what it asked and learned, on stderr why it stands still.

    Parameters
    ----------
    campaign
        Names the parameters and the descriptor.
    json
        Whether lines are JSON objects.
    """

    def __init__(self, campaign: "Campaign", *, json: bool) -> None:
        self._units = {each.name: each.unit for each in campaign.space.parameters}
        self._descriptor = campaign.question.descriptor
        self._json = json
        self._note = ""

    def turn(self, turn: "StepReport") -> None:
        """Say what a turn found and did; nothing where that is nothing."""
        if turn.note != self._note:
            self._note = turn.note
            note(f"waiting: {turn.note}" if turn.note else "going on")
        for suggestion in turn.added:
            self.line("added", suggestion["_id"], self._parameters(suggestion), "")
        for outcome in turn.answered:
            numbers = {key: each for key, each in outcome.items() if key not in {"_id", *self._units}}
            words = self._answer(outcome)
            self.line("answered", outcome["_id"], self._parameters(outcome), words, **numbers)
        for trial, reason in turn.failed:
            self.line("failed", trial, {}, reason, reason=reason)
        for trial in turn.removed:
            self.line("removed", trial, {}, "taken out of the queue by a person")

    def line(
        self, event: str, trial: str, parameters: Mapping[str, float], words: str, **more: object
    ) -> None:
        """Say one line of a trial."""
        if self._json:
            plain = {
                key: None if isinstance(each, float) and isnan(each) else each for key, each in more.items()
            }
            print_json({"event": event, "trial": trial, "parameters": dict(parameters), **plain})
            return
        typer.echo("  ".join(word for word in (event, trial, self.shown(parameters), words) if word))

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
        return f"{name} {interval(found)}  {outcome['quality']}"

    def _parameters(self, said: Mapping[str, Any]) -> dict[str, float]:
        return {name: said[name] for name in self._units}


class Asking:
    """Shows one proposal after the other and takes the answers.

    Parameters
    ----------
    planner
        Whose proposals they are.
    voice
        Says what was decided.
    json
        Whether the questions are JSON objects on stdout; else they are on stderr.
    """

    def __init__(self, planner: "QueuePlanner", voice: Voice, *, json: bool) -> None:
        self._planner, self._voice, self._json = planner, voice, json
        self._keyboard = Keyboard()
        self._shown = ""

    def answer(self) -> bool:
        """Show what waits for a person, take an answer if there is one, and return whether there was."""
        if not self._planner.proposals:
            self._shown = ""
            return False
        proposal = self._planner.proposals[0]
        trial = str(proposal["_id"])
        parameters = {name: each for name, each in proposal.items() if name != "_id"}
        if trial != self._shown:
            self._shown = trial
            if self._json:
                self._voice.line("proposed", trial, parameters, "")
            note(f"measure {self._voice.shown(parameters)}? y or n")
        said = self._keyboard.line()
        if said is None:
            return False
        if said not in {"y", "yes", "n", "no"}:
            note(f"expected y or n, found {said!r}")
            return False
        if said[0] == "y":
            self._planner.approve(trial)
        else:
            self._planner.reject(trial)
            self._voice.line("rejected", trial, parameters, "")
        return True


def plan(
    campaign: Annotated[Path, typer.Argument(help="File of the campaign (TOML).")],
    *,
    approve: Annotated[
        Approve,
        typer.Option(help="Who lets a measurement into the queue: a person at this terminal, or nobody."),
    ] = Approve.ASK,
    pause: Annotated[float, typer.Option(help="Between two looks at queue and Tiled [s].", min=0.05)] = 1.0,
    tiled: Annotated[str, typer.Option(help="Address of the Tiled server; else that of the settings.")] = "",
    into: Annotated[
        str, typer.Option(help="Container of the predictions; xpdml, or what the settings say.")
    ] = "",
    api_key: options.Key = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Add measurements to the queue of an RE manager until the campaign has found what it seeks.

    One line a measurement on stdout when it is added and when it is answered or has failed; on stderr why
    nothing goes on. It ends by itself with exit status 0, or at SIGTERM or Ctrl-C with what is queued left in
    the queue: started again it goes on where it was.
    """
    from bluesky_xpdml.planning.queue.campaign import read_campaign

    found = read_campaign(campaign)
    fixed = resolve_settings(settings, options={"tiled.uri": tiled, "tiled.path": into})
    if not fixed.tiled_uri:
        raise SettingsError(
            "expected a Tiled server, found none: name it by --tiled, or as tiled.uri in the settings"
        )
    reach = Reach(uri=fixed.tiled_uri, api_key=api_key or fixed.api_key(), path=fixed.tiled_path)
    voice = Voice(found, json=json)
    with stopping() as stop, _planner(found, reach, ask=approve is Approve.ASK) as planner:
        note(f"planning {found.question.campaign} through {found.access.address}")
        asking = Asking(planner, voice, json=json) if approve is Approve.ASK else None
        last = _follow(planner, voice, asking, stop, pause=pause)
    if last.finished:
        note(f"finished after {last.measured} measurements: {last.enough}")
    else:
        note("stopped; what the campaign has in the queue stays there")


def _follow(
    planner: "QueuePlanner", voice: Voice, asking: Asking | None, stop: Event, *, pause: float
) -> "StepReport":
    """Take turns until it is finished or told to stop, and at once where a person has answered."""
    turns: list[StepReport] = []

    def tell(turn: "StepReport") -> None:
        turns[:] = [turn]
        voice.turn(turn)
        end = time.monotonic() + pause
        while asking is not None and not turn.finished and not stop.is_set() and time.monotonic() < end:
            if asking.answer():
                return
            time.sleep(LOOK)

    return planner.run(stop, pause=LOOK if asking is not None else pause, report=tell)


@contextmanager
def _planner(found: "Campaign", reach: Reach, *, ask: bool) -> Iterator["QueuePlanner"]:
    """Give a planner whose connections are closed at the end."""
    from bluesky_xpdml.planning.queue.client import RunQueue
    from bluesky_xpdml.planning.queue.planner import QueuePlanner
    from bluesky_xpdml.publish.predictions import PredictionCatalog

    optimizer = found.new_optimizer()
    with ExitStack() as closing:
        queue = RunQueue(found.access, api_key=os.environ.get(found.api_key_variable) or None)
        closing.callback(queue.close)
        catalog = PredictionCatalog.from_uri(reach.uri, api_key=reach.api_key, path=reach.path)
        closing.callback(catalog.container.context.http_client.close)
        yield QueuePlanner(
            optimizer,
            catalog,
            queue,
            plan=found.plan,
            question=found.question,
            limits=found.limits,
            ask=ask,
        )


def note(text: str) -> None:
    """Say something on stderr."""
    progress_console.print(f"xpdml: {text}", markup=False, highlight=False, soft_wrap=True)
