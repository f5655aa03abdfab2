"""Which of the answers to one question counts."""

from collections.abc import Iterable

from bluesky_xpdml.publish.published import PublishedPrediction


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
