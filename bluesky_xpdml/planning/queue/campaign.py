"""A campaign as a file: what is sought, where, by which plan, and how far the planner may go."""

import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.queue.client import QueueAccess
from bluesky_xpdml.planning.queue.predictions import Question
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.planning.trials import TrialOptimizer, trial_metadata


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


OPTIMIZERS: Mapping[str, tuple[str, str]] = {
    "boundary": ("bluesky_xpdml.planning.boundary", "BoundaryOptimizer"),
    "uncertainty": ("bluesky_xpdml.planning.uncertainty", "UncertaintyOptimizer"),
}
"""Module and class of each kind of optimizer, which takes the space, the descriptor and its options."""
KEY_VARIABLE = "QSERVER_HTTP_SERVER_API_KEY"
"""Environment variable that holds the key of the HTTP server, if the file names no other."""

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What a planner at a queue works on."""

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
    """Environment variable that holds the key of the HTTP server; it is never in the file."""

    def new_optimizer(self) -> TrialOptimizer:
        """Return an optimizer that knows nothing yet.

        Raises
        ------
        PlanningError
            If there is none of that kind, or it does not take the options.
        """
        return new_optimizer(self.optimizer, self.space, self.question.descriptor, self.options)


def new_optimizer(kind: str, space: Space, descriptor: str, options: Mapping[str, Any]) -> TrialOptimizer:
    """Return an optimizer by the name of its kind.

    Parameters
    ----------
    kind
        One of `OPTIMIZERS`.
    space
        What may be changed.
    descriptor
        That it learns from.
    options
        Its keyword arguments.

    Raises
    ------
    PlanningError
        If there is none of that kind, or it does not take the options.

    Examples
    --------
    >>> space = Space(parameters=(Parameter(name="temperature", low=300.0, high=800.0, unit="K"),))
    >>> new_optimizer("boundary", space, "oxidation_state", {"tolerance": 0.01}).should_stop()
    (False, None)
    """
    if kind not in OPTIMIZERS:
        raise PlanningError(f"expected an optimizer, {' or '.join(OPTIMIZERS)}, found {kind!r}")
    module, name = OPTIMIZERS[kind]
    make = getattr(import_module(module), name)
    signature = inspect.signature(make).parameters.values()
    known = [each.name for each in signature if each.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise PlanningError(f"expected options of {kind}, {', '.join(known)}, found {option!r}")
    try:
        optimizer: TrialOptimizer = make(space, descriptor, **options)
    except (TypeError, ValueError) as error:
        found = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise PlanningError(f"expected options that {kind} can take, found {found}: {error}") from error
    return optimizer


def read_campaign(path: Path) -> Campaign:
    """Read the file of a campaign.

    Parameters
    ----------
    path
        A TOML file; `docs/how-to/plan-through-the-queue.md` shows one.

    Raises
    ------
    PlanningError
        If it cannot be read, or an entry is missing, unknown, or not what it has to be.
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


def _campaign(content: Mapping[str, Any]) -> Campaign:
    tables = ("question", "parameters", "optimizer", "plan", "limits", "queue")
    _known("the file", content, tables)
    for name in tables:
        if name not in content:
            raise PlanningError(f"expected a table [{name}], found none; there are {', '.join(content)}")
    rows = content["parameters"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PlanningError("expected tables [[parameters]], one a parameter, in double brackets")
    parameters = tuple(
        _record(Parameter, "parameters", {key: row[key] for key in row if key != "keyword"}) for row in rows
    )
    keywords = {row["name"]: row["keyword"] for row in rows if "keyword" in row}
    if not all(isinstance(keyword, str) for keyword in keywords.values()):
        raise PlanningError("expected a text for keyword of [[parameters]]")
    plan = _table(content, "plan")
    # Arguments for parameters stand beside their ranges.
    _known("[plan]", plan, ("name", "args", "kwargs"))
    options = dict(_table(content, "optimizer"))
    queue = dict(_table(content, "queue"))
    variable = queue.pop("api_key_variable", KEY_VARIABLE)
    if not isinstance(variable, str) or not variable.isidentifier():
        # It might be the key in the wrong place: it is not repeated.
        raise PlanningError("expected the name of an environment variable for queue.api_key_variable")
    campaign = Campaign(
        space=Space(parameters=parameters),
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


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content[name]
    if not isinstance(found, dict):
        raise PlanningError(f"expected a table [{name}], found {found!r}")
    return found


def _record(kind: type[Record], where: str, values: Mapping[str, Any]) -> Record:
    """Return a record of values by name, each of which is what its field says."""
    hints = get_type_hints(kind)
    described = fields(kind)  # type: ignore[arg-type]
    _known(f"[{where}]", values, tuple(each.name for each in described))
    given = {}
    for each in described:
        needed = each.default is MISSING and each.default_factory is MISSING
        if each.name in values:
            given[each.name] = _value(f"{where}.{each.name}", values[each.name], hints[each.name])
        elif needed:
            raise PlanningError(f"expected {where}.{each.name}, found none: add it to [{where}]")
    return kind(**given)


def _value(name: str, value: Any, hint: Any) -> Any:
    """Return a value of a file as a field takes it."""
    kind = get_origin(hint) or hint
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    texts = {str: "a text", float: "a number", int: "a whole number", bool: "true or false"}
    if kind in texts:
        if type(value) is not kind:
            raise PlanningError(f"expected {texts[kind]} for {name}, found {value!r}")
        return value
    if kind in {tuple, Mapping} and not isinstance(value, dict):
        raise PlanningError(
            f"expected {'a list' if kind is tuple else 'a table'} for {name}, found {value!r}"
        )
    choices = get_args(hint)
    if kind not in {tuple, Mapping} and value not in choices:
        raise PlanningError(f"expected {' or '.join(map(str, choices))} for {name}, found {value!r}")
    return value


def _known(where: str, values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in values:
        if name not in names:
            raise PlanningError(f"expected {', '.join(names)} in {where}, found {name!r}")
