"""Predictions as tables: one row per prediction, one column per number."""

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.publish.published import PublishedPrediction

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    import xarray as xr

TEXTS = ("raw_uid", "sample", "sample_uid", "proposal", "element", "edge", "technique", "verdict", "reasons")
"""Columns of text, beside `uid`."""


def frame(predictions: Sequence[PublishedPrediction]) -> "pd.DataFrame":
    """Return predictions as a table of pandas, in their order, under their uid.

    The columns are `time` (UTC), `raw_uid` (the first), `sample`, `sample_uid`, `proposal`, `element`,
    `edge`, `technique`, `verdict`, `reasons`, and for each descriptor that any of them has its name, `_low`
    and `_high` (NaN if absent). `attrs["units"]` holds the units of the latter.

    Parameters
    ----------
    predictions
        As a catalog returns them.

    Examples
    --------
    >>> from bluesky_xpdml.publish import derived_run, published
    >>> from bluesky_xpdml.records import Estimate, Prediction, Quality
    >>> from bluesky_xpdml.vocabulary import Descriptor, Technique
    >>> state = Estimate(value=2.0, low=1.9, high=2.2, unit="e")
    >>> states = {Descriptor.OXIDATION_STATE: state}
    >>> answer = Prediction(
    ...     technique=Technique.XANES, element="Fe", edge="K", quality=Quality(), descriptors=states
    ... )
    >>> table = frame([published(derived_run(answer)[0][1])])
    >>> table[["element", "oxidation_state", "oxidation_state_high"]].values.tolist()
    [['Fe', 2.0, 2.2]]
    """
    import pandas as pd

    columns: dict[str, Any] = {
        "time": pd.to_datetime(
            pd.Series([each.time for each in predictions], dtype=float), unit="s", utc=True
        ),
        **{name: [_text(each, name) for each in predictions] for name in TEXTS},
    }
    numbers, units = _numbers(predictions)
    table = pd.DataFrame(columns | numbers)
    table.index = pd.Index([each.uid for each in predictions], name="uid", dtype=object)
    table.attrs["units"] = units
    return table


def dataset(predictions: Sequence[PublishedPrediction]) -> "xr.Dataset":
    """Return predictions as a data set of xarray over `uid`; each number has its `units` in its attributes.

    The variables are the columns of `frame`; `time` is in nanoseconds since 1970, UTC.

    Parameters
    ----------
    predictions
        As a catalog returns them.
    """
    import numpy as np
    import xarray as xr

    numbers, units = _numbers(predictions)
    times = np.array([round(each.time * 1e9) for each in predictions], dtype="datetime64[ns]")
    variables: dict[str, Any] = {"time": ("uid", times)}
    for name in TEXTS:
        variables[name] = ("uid", np.array([_text(each, name) for each in predictions], dtype=str))
    for name, values in numbers.items():
        variables[name] = ("uid", np.array(values), {"units": units[name]})
    return xr.Dataset(variables, coords={"uid": np.array([each.uid for each in predictions], dtype=str)})


def _text(prediction: PublishedPrediction, name: str) -> str:
    texts = {
        "raw_uid": prediction.raw_uids[0] if prediction.raw_uids else "",
        "sample": prediction.sample.name,
        "sample_uid": prediction.sample.uid,
        "proposal": prediction.origin.proposal,
        "verdict": str(prediction.quality.verdict),
        "reasons": "; ".join(prediction.quality.reasons),
    }
    return texts[name] if name in texts else str(getattr(prediction, name))


def _numbers(predictions: Sequence[PublishedPrediction]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the descriptors' columns, NaN if absent, and their units."""
    columns: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for name in dict.fromkeys(name for each in predictions for name in each.descriptors):
        found = [each.descriptors.get(name) for each in predictions]
        unit = next(each.unit for each in found if each is not None)
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high")):
            columns[name + suffix] = [nan if each is None else float(getattr(each, end)) for each in found]
            units[name + suffix] = unit
    return columns, units
