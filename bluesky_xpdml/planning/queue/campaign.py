"""A campaign as a file: the question, the parameters, the optimizer, the plan, the limits, and the queue."""

import inspect
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from json import dumps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.queue.client import QueueAccess
from bluesky_xpdml.planning.queue.progress import Question
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.planning.trials import TrialOptimizer, trial_metadata
from bluesky_xpdml.vocabulary import Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The budget of a campaign, all positive; a restart does not renew it."""

    at_most_queued: int
    """Items of the campaign that wait in the queue, including proposals that wait for a person."""
    measurements: int
    """Trials that are measured, including failed ones."""
    seconds: float
    """Duration from the beginning of the first measurement [s]; nothing is started after it."""
    patience: float
    """How long after its plan a prediction may take before the trial has failed [s]."""

    def __post_init__(self) -> None:
        for name, least in (("at_most_queued", 1), ("measurements", 1), ("seconds", 0.0), ("patience", 0.0)):
            value = getattr(self, name)
            if not value >= least or (least == 0.0 and value == 0.0):
                raise PlanningError(f"expected a limit {name} above {0 if least else '0 s'}, found {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedPlan:
    """The plan that measures one trial.

    It needs no `md`: the RE manager writes the `meta` of an item into the start document of its runs.
    """

    name: str
    """In the RE manager."""
    args: tuple[Any, ...] = ()
    """The same for all trials."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """The same for all trials."""
    keywords: Mapping[str, str] = field(default_factory=dict)
    """Arguments for the parameters, by parameter; by default an argument has the parameter's name."""

    def check(self, space: Space) -> None:
        """Raise a `PlanningError` unless each parameter of the campaign has an argument of its own."""
        unknown = [name for name in self.keywords if name not in space.names]
        if unknown:
            raise PlanningError(
                f"expected keywords for {', '.join(space.names)}, found one for {unknown[0]}: correct it"
            )
        arguments = [*self.kwargs, *(self.keywords.get(name, name) for name in space.names)]
        twice = sorted({name for name in arguments if arguments.count(name) > 1})
        if twice:
            raise PlanningError(
                f"expected each argument of {self.name} once, found {twice[0]} twice: "
                "take it out of kwargs, or give a parameter another keyword"
            )

    def item(self, campaign: str, suggestion: Mapping[str, Any]) -> dict[str, Any]:
        """Return the queue item that measures a suggestion: `_id`, and a value for each parameter."""
        metadata = trial_metadata(campaign, suggestion)
        (trial,) = metadata.values()
        values = {self.keywords.get(name, name): value for name, value in trial["parameters"].items()}
        return {
            "name": self.name,
            "args": list(self.args),
            "kwargs": {**self.kwargs, **values},
            "meta": metadata,
        }


OPTIMIZERS: Mapping[str, tuple[str, str]] = {
    "boundary": ("bluesky_xpdml.planning.boundary", "BoundaryOptimizer"),
    "uncertainty": ("bluesky_xpdml.planning.uncertainty", "UncertaintyOptimizer"),
}
"""Module and class of each kind of optimizer; they take the space, the descriptor and options."""
KEY_VARIABLE = "QSERVER_HTTP_SERVER_API_KEY"
"""Environment variable with the key of the HTTP server, if the file names no other."""

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """The content of a campaign file."""

    space: Space
    question: Question
    plan: QueuedPlan
    limits: Limits
    access: QueueAccess
    optimizer: str
    """Its kind, one of `OPTIMIZERS`."""
    options: Mapping[str, Any]
    """Of the optimizer."""
    api_key_variable: str = KEY_VARIABLE
    """Environment variable with the key of the HTTP server; the key itself is never in the file."""

    def new_optimizer(self) -> TrialOptimizer:
        """Return an optimizer without answers; a `PlanningError` if it does not take the options."""
        return new_optimizer(self.optimizer, self.space, self.question.descriptor, self.options)


def new_optimizer(
    kind: str, space: Space, descriptor: Descriptor, options: Mapping[str, Any]
) -> TrialOptimizer:
    """Return an optimizer of a kind, one of `OPTIMIZERS`, with its keyword arguments."""
    if kind not in OPTIMIZERS:
        raise PlanningError(f"expected an optimizer, {' or '.join(OPTIMIZERS)}, found {kind!r}")
    module, name = OPTIMIZERS[kind]
    optimizer_class = getattr(import_module(module), name)
    signature = inspect.signature(optimizer_class).parameters.values()
    known = [each.name for each in signature if each.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise PlanningError(f"expected options of {kind}, {', '.join(known)}, found {option!r}")
    try:
        optimizer: TrialOptimizer = optimizer_class(space, descriptor, **options)
    except (TypeError, ValueError) as error:
        found = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise PlanningError(f"expected options that {kind} can take, found {found}: {error}") from error
    return optimizer


def read_campaign(path: Path) -> Campaign:
    """Read a campaign from a TOML file, as in `docs/how-to/plan-through-the-queue.md`.

    It raises a `PlanningError` if the file cannot be read, or an entry is missing, unknown, or of the wrong
    type.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanningError(f"{path} cannot be read: {error.strerror}; correct the name") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanningError(f"{path} is no TOML file: {error}") from error
    try:
        return _campaign(content)
    except PlanningError as error:
        raise PlanningError(f"{path}: {error}") from error


TABLES = ("question", "parameters", "optimizer", "plan", "limits", "queue")


def _campaign(content: Mapping[str, Any]) -> Campaign:
    _require_known("the file", content, TABLES)
    for name in TABLES:
        if name not in content:
            raise PlanningError(f"expected a table [{name}], found none; there are {', '.join(content)}")
    space, keywords = _space(content["parameters"])
    plan = _table(content, "plan")
    # Arguments for parameters are given beside their ranges.
    _require_known("[plan]", plan, ("name", "args", "kwargs"))
    options = dict(_table(content, "optimizer"))
    queue = dict(_table(content, "queue"))
    variable = _variable_name(queue.pop("api_key_variable", KEY_VARIABLE))
    campaign = Campaign(
        space=space,
        question=_record(Question, "question", _table(content, "question")),
        plan=_record(QueuedPlan, "plan", {**plan, "keywords": keywords}),
        limits=_record(Limits, "limits", _table(content, "limits")),
        access=_record(QueueAccess, "queue", queue),
        optimizer=str(options.pop("kind", "")),
        options=options,
        api_key_variable=variable,
    )
    campaign.plan.check(campaign.space)
    return campaign


def _space(rows: Any) -> tuple[Space, dict[str, str]]:
    """Return the parameters, and the arguments of the plan for them."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PlanningError("expected tables [[parameters]], one per parameter, in double brackets")
    parameters = tuple(
        _record(Parameter, "parameters", {key: row[key] for key in row if key != "keyword"}) for row in rows
    )
    keywords = {row["name"]: row["keyword"] for row in rows if "keyword" in row}
    if not all(isinstance(keyword, str) for keyword in keywords.values()):
        raise PlanningError("expected a text for keyword of [[parameters]]")
    return Space(parameters=parameters), keywords


def _variable_name(name: Any) -> str:
    # Any other variable may hold a secret that is not for the server that the same file names.
    if not isinstance(name, str) or not re.fullmatch(r"(QSERVER|XPDML)_[A-Za-z0-9_]+", name):
        # It might be the key in the wrong place: do not repeat it.
        raise PlanningError(
            "expected the name of an environment variable that begins with QSERVER_ or XPDML_ for "
            "queue.api_key_variable"
        )
    return name


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content[name]
    if not isinstance(table, dict):
        raise PlanningError(f"expected a table [{name}], found {table!r}")
    return table


def _record(kind: type[Record], table: str, values: Mapping[str, Any]) -> Record:
    """Return a record from the values of a table, each checked against the type of its field."""
    hints = get_type_hints(kind)
    known = fields(kind)  # type: ignore[arg-type]
    _require_known(f"[{table}]", values, tuple(each.name for each in known))
    given = {}
    for each in known:
        required = each.default is MISSING and each.default_factory is MISSING
        if each.name in values:
            given[each.name] = _value(f"{table}.{each.name}", values[each.name], hints[each.name])
        elif required:
            raise PlanningError(f"expected {table}.{each.name}, found none: add it to [{table}]")
    return kind(**given)


def _value(name: str, value: Any, hint: Any) -> Any:
    """Return a value of the file as the type of its field, strictly: a text is no number."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_json(dumps(value, default=str), strict=True)
    except ValidationError as error:
        expected = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise PlanningError(f"expected {expected} for {name}, found {value!r}") from error


def _require_known(where: str, values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in values:
        if name not in names:
            raise PlanningError(f"expected {', '.join(names)} in {where}, found {name!r}")
