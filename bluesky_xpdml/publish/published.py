"""A prediction as Tiled gives it back: the record that queries return and planners read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.records import Estimate, ModelReference, Origin, Quality, Sample, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPrediction:
    """The start document of a derived run as a record; the curves stay on the server."""

    uid: str
    """Of the derived run."""
    time: float
    """When the prediction was made [s since 1970]."""
    technique: str
    """`xanes`, `pdf`, `dpdf`, `xanes+pdf` or `xanes+dpdf`."""
    element: str
    edge: str
    quality: Quality
    descriptors: Mapping[str, Estimate]
    """By name; empty where the prediction failed."""
    diagnostics: Mapping[str, float]
    models: tuple[ModelReference, ...]
    sample: Sample
    origin: Origin
    raw_uids: tuple[str, ...]
    completeness: float
    start: Mapping[str, Any] = field(repr=False)
    """The whole start document."""

    @property
    def failed(self) -> bool:
        """Whether there is no answer; the quality says why."""
        return self.quality.verdict is Verdict.FAILED

    @property
    def question(self) -> tuple[tuple[str, ...], str, str, str]:
        """Raw runs, technique, element and edge: of the answers to one question the latest counts.

        Without a raw run, as predictions of files are, each stands for itself.
        """
        return self.raw_uids or (self.uid,), self.technique, self.element, self.edge


def published(start: Mapping[str, Any]) -> PublishedPrediction:
    """Return the record of a derived run.

    Parameters
    ----------
    start
        Its start document.

    Raises
    ------
    PublishError
        If it is not the start document of a derived run.

    Examples
    --------
    >>> from bluesky_xpdml.publish.documents import derived_run
    >>> from bluesky_xpdml.records import Prediction
    >>> failed = Prediction(technique="xanes", element="Zn", edge="K", quality=Quality().failed("no model"))
    >>> (_, start), *_ = derived_run(failed)
    >>> published(start).failed, published(start).quality.reasons
    (True, ('no model',))
    """
    try:
        return PublishedPrediction(
            uid=start["uid"],
            time=float(start["time"]),
            technique=start["technique"],
            element=start["element"],
            edge=start["edge"],
            quality=Quality(
                verdict=Verdict(start["quality"]["verdict"]),
                reasons=tuple(start["quality"].get("reasons", ())),
            ),
            descriptors={name: _descriptor(found) for name, found in start.get("descriptors", {}).items()},
            diagnostics=dict(start.get("diagnostics", {})),
            models=tuple(ModelReference(**model) for model in start.get("models", ())),
            sample=Sample(**start.get("sample", {})),
            origin=Origin(**start.get("origin", {})),
            raw_uids=tuple(start.get("raw_uids", ())),
            completeness=float(start.get("completeness", 1.0)),
            start=start,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        uid = start.get("uid", "without uid")
        msg = f"expected the start document of a derived run, found {uid}: {type(error).__name__} {error}"
        raise PublishError(msg) from error


def _descriptor(found: Mapping[str, Any]) -> Estimate:
    return Estimate(
        value=float(found["value"]),
        low=float(found["low"]),
        high=float(found["high"]),
        unit=found["unit"],
        probabilities=found.get("probabilities"),
    )


def newest_first(predictions: Iterable[PublishedPrediction]) -> list[PublishedPrediction]:
    """Return predictions by the time at which they were made, each once; of equal times the first stays so.

    Parameters
    ----------
    predictions
        In any order.
    """
    once = {each.uid: each for each in predictions}
    return sorted(once.values(), key=lambda each: -each.time)


def latest(predictions: Iterable[PublishedPrediction]) -> list[PublishedPrediction]:
    """Return the answers that count, newest first: of each question one.

    It is the newest that did not fail; only where all failed, the newest failure.

    Parameters
    ----------
    predictions
        Every answer to the questions they answer, in any order.

    Examples
    --------
    >>> from bluesky_xpdml.publish import derived_run, published
    >>> from bluesky_xpdml.records import Prediction, Quality
    >>> good = Prediction(technique="xanes", element="Fe", edge="K", quality=Quality(), raw_uids=("raw",))
    >>> failed = good.with_quality(Quality().failed("no model"))
    >>> answers = [
    ...     published(derived_run(prediction, clock=lambda at=at: at)[0][1])
    ...     for prediction, at in ((good, 1.0), (good, 1.0), (failed, 2.0))
    ... ]
    >>> [str(each.quality.verdict) for each in latest(answers)]
    ['good']
    """
    counting: dict[object, PublishedPrediction] = {}
    for each in newest_first(predictions):
        known = counting.setdefault(each.question, each)
        if known.failed and not each.failed:
            counting[each.question] = each
    return newest_first(counting.values())
