"""A prediction as Tiled returns it, and which of several answers to one question is current.

A container may hold derived runs of later versions of this package, of other programs, and runs that are only
half written. Entries that this version does not know are left out, a run without what every prediction needs
is skipped, and either is logged once per run.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.records import (
    AxisSource,
    EnergyAxis,
    Estimate,
    ModelReference,
    Origin,
    Quality,
    Sample,
    Verdict,
)
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
Rank = tuple[bool, int, int, float, float, tuple[int, ...], float, str]

ACCESS_TAGS = "tiled_access_tags"
"""Entry of start documents, raw and derived: who may see the run on a server with a tag policy."""
LOGGED = 10_000
"""Messages about runs that are remembered, so that each is logged once."""
LARGEST = 2**63
"""Integers that documents hold are smaller."""
_AXIS_KNOWLEDGE = {AxisSource.REFERENCE: 2, AxisSource.GIVEN: 2, AxisSource.STORED: 1, AxisSource.NONE: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPrediction:
    """The start document of a derived run as a record; the curves stay on the server."""

    uid: str
    """Of the derived run."""
    time: float
    """When the prediction was made [s since 1970]."""
    technique: Technique
    element: str
    edge: str
    quality: Quality
    descriptors: Mapping[Descriptor, Estimate]
    """Empty if the prediction failed."""
    diagnostics: Mapping[str, float]
    models: tuple[ModelReference, ...]
    sample: Sample
    origin: Origin
    raw_uids: tuple[str, ...]
    completeness: float
    start: Mapping[str, Any] = field(repr=False)
    """The whole start document, with entries that this version does not know."""

    @property
    def failed(self) -> bool:
        """Whether there is no answer; the quality holds the reasons."""
        return self.quality.verdict is Verdict.FAILED

    @property
    def question(self) -> tuple[tuple[str, ...], Technique, str, str]:
        """Raw runs, technique, element and edge: of the answers to one question one is current.

        A prediction without a raw run, as files have, is the only answer to its question.
        """
        return self.raw_uids or (self.uid,), self.technique, self.element, self.edge

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the analysis; empty if the run states none."""
        return as_mapping(as_mapping(self.start.get("analysis")).get("settings"))

    @property
    def revision(self) -> int:
        """Version of the analysis; 1 if the run states none."""
        revision = as_mapping(self.start.get("analysis")).get("revision", 1)
        return int(revision) if _is_number(revision) else 1

    @property
    def axis(self) -> EnergyAxis:
        """How the energy axis was calibrated; source `none` if the run states nothing, as those of a PDF."""
        spectrum = as_mapping(self.settings.get("xanes"))
        axis = as_mapping(self.settings.get("energy_axis") or spectrum.get("energy_axis"))
        source, uncertainty = axis.get("source"), axis.get("uncertainty")
        if not _is_text(source) or source not in set(AxisSource) or not _is_number(uncertainty):
            return EnergyAxis()
        return EnergyAxis(source=AxisSource(source), uncertainty=float(uncertainty))

    @property
    def rank(self) -> Rank:
        """Order among the answers to one question: the highest one is current.

        Compared one after the other: an answer before a failure, the revision of the analysis, where the
        energy axis comes from (foil or given offset, stored calibration, nothing), its uncertainty (to
        0.01 eV), the completeness (to 1 %), the versions of the bundles, the time, and the uid.
        """
        return (
            not self.failed,
            self.revision,
            _AXIS_KNOWLEDGE[self.axis.source],
            -round(self.axis.uncertainty, 2),
            round(self.completeness, 2),
            tuple(model.version for model in self.models),
            self.time,
            self.uid,
        )


def published(start: Mapping[str, Any]) -> PublishedPrediction:
    """Return the record of a derived run. Entries that are not understood are left out, and logged once.

    Parameters
    ----------
    start
        Its start document.

    Raises
    ------
    PublishError
        If an entry that every prediction has (uid, time, technique, element, edge, quality, raw uids) is
        missing or not understood.

    Examples
    --------
    >>> from bluesky_xpdml.publish.documents import derived_run
    >>> from bluesky_xpdml.records import Prediction
    >>> quality = Quality().failed(Reason("no model for Zn", ReasonCode.MODEL_MISSING))
    >>> failed = Prediction(technique=Technique.XANES, element="Zn", edge="K", quality=quality)
    >>> (_, start), *_ = derived_run(failed)
    >>> published(start).failed, published(start).quality.reasons[0].code
    (True, <ReasonCode.MODEL_MISSING: 'model-missing'>)
    """
    run = f"run {start.get('uid', 'without uid')!a} of {_version(start)}"
    needed: dict[str, Any] = {}
    for name, read in _NEEDED.items():
        try:
            needed[name] = read(start.get(name))
        except (KeyError, TypeError, ValueError) as error:
            value = ascii(start[name]) if name in start else "none"
            raise PublishError(
                f"{run}: expected the start document of a derived run, found {name} = {value:.80}"
            ) from error
    ignored: list[str] = []
    optional = {
        name: _read_entry(start, name, read, default, ignored) for name, (read, default) in _OPTIONAL.items()
    }
    # They stand where servers look for them, beside the entries of the raw run.
    tags = tuple(tag for tag in as_list(start.get(ACCESS_TAGS)) if _is_text(tag))
    optional["origin"] = replace(optional["origin"], access_tags=tags)
    descriptors = dict(_estimates(as_mapping(start.get("descriptors")), ignored))
    if ignored:
        _log_once(logging.INFO, f"{run}: not understood and left out: {', '.join(map(ascii, ignored))}")
    return PublishedPrediction(**needed, **optional, descriptors=descriptors, start=start)


def readable(starts: Iterable[Mapping[str, Any]]) -> Iterator[PublishedPrediction]:
    """Yield the records of derived runs; those that cannot be read are skipped, and logged once per run."""
    for start in starts:
        try:
            yield published(start)
        except PublishError as error:
            _log_once(logging.WARNING, f"skipped {error}")


def newest_first(predictions: Iterable[PublishedPrediction]) -> list[PublishedPrediction]:
    """Return predictions by the time at which they were made, newest first, each once."""
    once = {each.uid: each for each in predictions}
    return sorted(once.values(), key=lambda each: (each.time, each.uid), reverse=True)


def current(predictions: Iterable[PublishedPrediction]) -> list[PublishedPrediction]:
    """Return the current answer to each question, newest first, in whatever order they come.

    Of all answers to one question the one of the highest `PublishedPrediction.rank` is current.
    """
    best: dict[object, PublishedPrediction] = {}
    for each in predictions:
        known = best.setdefault(each.question, each)
        if known is not each and each.rank > known.rank:
            best[each.question] = each
    return newest_first(best.values())


def quality_entry(quality: Quality) -> dict[str, object]:
    """Return a quality record as documents hold it: `codes` has one entry for each of `reasons`."""
    return {
        "verdict": quality.verdict,
        "reasons": quality.reasons,
        "codes": [getattr(reason, "code", ReasonCode.UNSPECIFIED) for reason in quality.reasons],
    }


def read_quality(entry: Any) -> Quality:
    """Return the quality record of an entry; reasons without a known code have `unspecified`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there is no verdict, or one that this version does not know.
    """
    verdict = Verdict(entry["verdict"])
    texts, codes = as_list(entry.get("reasons")), as_list(entry.get("codes"))
    if len(codes) != len(texts):
        codes = [ReasonCode.UNSPECIFIED] * len(texts)
    reasons = (Reason(text, _code(code)) for text, code in zip(texts, codes, strict=True) if _is_text(text))
    return Quality(verdict=verdict, reasons=tuple(reasons))


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a value that is a mapping; an empty one instead of anything else."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return a value that is a sequence as a list; an empty one instead of anything else."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []


@lru_cache(maxsize=LOGGED)
def _log_once(level: int, message: str) -> None:
    logger.log(level, message)


def _version(start: Mapping[str, Any]) -> str:
    analysis = as_mapping(start.get("analysis"))
    return f"bluesky_xpdml {analysis['version']!a}" if "version" in analysis else "an unknown version"


def _code(value: Any) -> ReasonCode:
    return ReasonCode(value) if _is_text(value) and value in set(ReasonCode) else ReasonCode.UNSPECIFIED


def _is_number(value: Any) -> TypeGuard[float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> float:
    if not _is_number(value):
        raise TypeError("expected a number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, () if value is None else _require_list(value)))


def _require_list(value: Any) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError("expected a list")
    return list(value)


def _require_mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("expected a mapping")
    return value


def _diagnostics(value: Any) -> dict[str, float]:
    return {name: float(each) for name, each in _require_mapping(value).items() if _is_number(each)}


def _models(value: Any) -> tuple[ModelReference, ...]:
    return tuple(
        ModelReference(
            name=_text(each["name"]), version=int(_number(each["version"])), sha256=_text(each["sha256"])
        )
        for each in _require_list(value)
    )


def _sample(value: Any) -> Sample:
    entry = _require_mapping(value)
    return Sample(**{name: entry[name] for name in _SAMPLE if _is_text(entry.get(name))})


def _origin(value: Any) -> Origin:
    entry = _require_mapping(value)
    texts = {name: entry[name] for name in ("beamline", "proposal", "scan_id") if _is_text(entry.get(name))}
    keys = as_mapping(entry.get("keys"))
    return Origin(
        time=float(entry["time"]) if _is_number(entry.get("time")) else None,
        trial=as_mapping(entry.get("trial")),
        keys={name: each for name, each in keys.items() if _is_text(each)},
        **texts,
    )


def _estimates(entry: Mapping[str, Any], ignored: list[str]) -> Iterator[tuple[Descriptor, Estimate]]:
    for name, found in entry.items():
        try:
            yield Descriptor(name), _estimate(found)
        except (KeyError, TypeError, ValueError):
            ignored.append(f"descriptors.{name}")


def _estimate(value: Any) -> Estimate:
    entry = _require_mapping(value)
    classes = entry.get("probabilities")
    return Estimate(
        value=_number(entry["value"]),
        low=_number(entry["low"]),
        high=_number(entry["high"]),
        unit=_text(entry["unit"]),
        probabilities=None
        if classes is None
        else {name: _number(each) for name, each in _require_mapping(classes).items()},
    )


_SAMPLE = tuple(each.name for each in fields(Sample))
_NEEDED: Mapping[str, Callable[[Any], Any]] = {
    "uid": _text,
    "time": _number,
    "technique": Technique,
    "element": _text,
    "edge": _text,
    "quality": read_quality,
    "raw_uids": _texts,
}
_OPTIONAL: Mapping[str, tuple[Callable[[Any], Any], Any]] = {
    "diagnostics": (_diagnostics, {}),
    "models": (_models, ()),
    "sample": (_sample, Sample()),
    "origin": (_origin, Origin()),
    "completeness": (_number, 1.0),
}


def _read_entry(
    start: Mapping[str, Any], name: str, read: Callable[[Any], Value], default: Value, ignored: list[str]
) -> Value:
    """Return an entry that runs may lack; the default if it is absent or not understood."""
    if name not in start:
        return default
    try:
        return read(start[name])
    except (KeyError, TypeError, ValueError):
        ignored.append(name)
        return default
