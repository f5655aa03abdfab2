"""Conditions by which predictions are searched, on the server and for a single record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from bluesky_xpdml.publish.documents import plain_key
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.records import PURPOSE, Verdict
from bluesky_xpdml.vocabulary import Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Conditions that a prediction has to fulfil, all of them; an empty query has none.

    Examples
    --------
    >>> reduced = Query(element="Fe", descriptors={"oxidation_state": (1.5, 2.5)}, verdicts=(Verdict.GOOD,))
    """

    raw_uid: str = ""
    """Start uid of any of its raw runs."""
    sample: str = ""
    """Name of the sample."""
    sample_uid: str = ""
    proposal: str = ""
    beamline: str = ""
    element: str = ""
    technique: str = ""
    campaign: str = ""
    """Of the planner that requested the measurement."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Entries of the raw start document that the callback carries, by dotted path."""
    descriptors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By name, the ends of a range, both included [unit of the descriptor]."""
    verdicts: tuple[Verdict, ...] = ()
    """Any of these; empty for all."""
    after: float | None = None
    """Predicted at this time or later [s since 1970]."""
    before: float | None = None
    """Predicted before this time [s since 1970]."""


Parameters = dict[str, list[str]]


def parameters(queries: Sequence[Any]) -> Parameters:
    """Return queries of `tiled.queries` as parameters of a request."""
    from tiled.query_registration import default_query_registry

    found: Parameters = {}
    for query in queries:
        name = default_query_registry.query_type_to_name[type(query)]
        for name_of, value in query.encode().items():
            if value is not None:
                found.setdefault(f"filter[{name}][condition][{name_of}]", []).append(value)
    return found


def conditions(query: Query) -> list[Any]:
    """Return the conditions that a server checks; the most selective come first, to cost least."""
    from tiled.queries import Contains, In, Key, KeyPresent

    found: list[Any] = [Contains("start.raw_uids", query.raw_uid)] if query.raw_uid else []
    found += [Key(f"start.{key}") == value for key, value in _equal(query).items() if value]
    for name, ends in query.descriptors.items():
        low, high = (float(end) for end in ends)
        value = Key(f"start.descriptors.{name}.value")
        found += [value >= low] if isfinite(low) else [KeyPresent(value.key)]
        found += [value <= high] if isfinite(high) else []
    found += [] if query.after is None else [Key("start.time") >= float(query.after)]
    found += [] if query.before is None else [Key("start.time") < float(query.before)]
    verdicts = [str(verdict) for verdict in query.verdicts]
    found += [In("start.quality.verdict", verdicts)] if verdicts else []
    return [*found, Key("start.purpose") == PURPOSE]


def fulfils(prediction: PublishedPrediction, query: Query) -> bool:
    """Return whether a prediction fulfils a query; partial ones of a running measurement never do."""
    return is_result(prediction.start) and all(
        (
            not query.raw_uid or query.raw_uid in prediction.raw_uids,
            all(not value or _value(prediction.start, key) == value for key, value in _equal(query).items()),
            all(_within(prediction, name, ends) for name, ends in query.descriptors.items()),
            query.after is None or prediction.time >= query.after,
            query.before is None or prediction.time < query.before,
            not query.verdicts or prediction.quality.verdict in query.verdicts,
        )
    )


def is_result(start: Mapping[str, Any]) -> bool:
    """Return whether a start document is that of a final prediction."""
    return start.get("purpose") == PURPOSE


def distinguishes_answers(query: Query) -> bool:
    """Return whether of the answers to one question some may fulfil a query and others not.

    All of them agree in what the raw run states (its sample, its proposal, ...).
    """
    return bool(query.descriptors or query.verdicts) or query.after is not None


def shape(query: Query) -> tuple[str, ...]:
    """Return which entries a query has conditions on: queries of one shape mostly find equally many runs.

    Examples
    --------
    >>> shape(Query(element="Fe", descriptors={"bond_length": (1.9, 2.1)}))
    ('element', 'bond_length')
    """
    named = [name for name, value in (*_equal(query).items(), ("raw_uid", query.raw_uid)) if value]
    times = [name for name in ("after", "before") if getattr(query, name) is not None]
    return (*named, *query.descriptors, *times, *query.verdicts)


def _equal(query: Query) -> dict[str, str]:
    """Return the values that entries of the start document must have, by dotted path; empty for any."""
    return {
        "sample.name": query.sample,
        "sample.uid": query.sample_uid,
        "origin.trial.campaign": query.campaign,
        **{f"origin.keys.{plain_key(name)}": value for name, value in query.keys.items()},
        "origin.proposal": query.proposal,
        "origin.beamline": query.beamline,
        "element": query.element,
        "technique": query.technique,
    }


def _value(start: Mapping[str, Any], path: str) -> object:
    found: object = start
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _within(prediction: PublishedPrediction, name: str, ends: tuple[float, float]) -> bool:
    descriptor = prediction.descriptors.get(Descriptor(name)) if name in set(Descriptor) else None
    return descriptor is not None and ends[0] <= descriptor.value <= ends[1]
