"""Curves of a derived run, read back as the records that they were written from.

The curves are in the streams `xanes` and `pdf`, their properties in the entry `curves` of the start document,
the settings under `analysis`. A spectrum is normalised again from its absorption with the published settings,
which also gives the lines before and after the edge. Published values are restored bit for bit; variances
and S(Q) are not published.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_xpdml.errors import MissingDataError, PublishError, XpdmlError
from bluesky_xpdml.publish.layout import TABLE
from bluesky_xpdml.publish.published import PublishedPrediction, as_mapping, read_quality
from bluesky_xpdml.records import (
    AxisSource,
    DetectionMode,
    EnergyAxis,
    FloatArray,
    PairDistribution,
    Xanes,
)
from bluesky_xpdml.reduction.normalisation import normalise

if TYPE_CHECKING:
    from tiled.client.container import Container

CURVES = "curves"
"""Entry of the start document: by stream, the properties of its record beside the arrays and the settings."""
POINTS = "points"
"""Entry of a stream whose curves differ in length: by column, how many rows it fills."""
RANGES = ("e0", "pre_edge", "post_edge", "degree", "pre_edge_degree")
"""Settings of a reduction from which pre-edge and post-edge are computed again."""


def read_xanes(container: "Container", prediction: PublishedPrediction) -> Xanes:
    """Return the spectrum that a prediction of technique `xanes` was read from.

    Raises MissingDataError if the run holds no spectrum, or another version published it in another form;
    PublishError if the server is away, or the run is still being written.
    """
    entry, reduction = _entry(prediction, "xanes"), _reduction(prediction)
    data = _read(container, prediction, "xanes", ("energy", "mu"))
    missing = [name for name in RANGES if name not in reduction]
    if missing:
        raise MissingDataError(
            f"expected {', '.join(missing)} in the settings of run {prediction.uid}, found none: "
            "analyse its raw run again"
        )
    with _unknown_form(prediction, "xanes"):
        e0 = float(reduction["e0"])
        lines = normalise(
            data["energy"],
            data["mu"],
            e0=e0,
            pre_edge=_pair(reduction["pre_edge"]),
            post_edge=_pair(reduction["post_edge"]),
            degree=int(reduction["degree"]),
            pre_edge_degree=int(reduction["pre_edge_degree"]),
        )
        return Xanes(
            energy=data["energy"],
            mu=data["mu"],
            norm=lines.norm,
            flat=lines.flat,
            pre_edge=lines.pre_edge,
            post_edge=lines.post_edge,
            e0=e0,
            edge_step=lines.edge_step,
            element=prediction.element,
            edge=prediction.edge,
            mode=DetectionMode(entry["mode"]),
            axis=_axis(entry["axis"]),
            settings=reduction,
            quality=read_quality(entry["quality"]),
            **_measurement(prediction),
        )


def read_distribution(
    container: "Container", prediction: PublishedPrediction, *, over_q: bool
) -> PairDistribution:
    """Return the pair distribution function that a prediction of technique `pdf` or `dpdf` was read from.

    With `over_q`, I(Q) and F(Q) are read too, if there are any. Raises MissingDataError
    if the run holds no pair distribution function, or another version published it in another form;
    PublishError if the server is away, or the run is still being written.
    """
    entry = _entry(prediction, "pdf")
    data = _read(container, prediction, "pdf", ("r", "g_r"), ("q", "i_q", "f_q") if over_q else ())
    with _unknown_form(prediction, "pdf"):
        scale = entry.get("scale_uncertainty")
        return PairDistribution(
            r=data["r"],
            g=data["g_r"],
            q=data.get("q"),
            intensity=data.get("i_q"),
            f=data.get("f_q"),
            composition={symbol: float(share) for symbol, share in entry["composition"].items()},
            settings=_reduction(prediction),
            scale_uncertainty=None if scale is None else float(scale),
            quality=read_quality(entry["quality"]),
            **_measurement(prediction),
        )


def is_whole(container: "Container", uid: str) -> bool | None:
    """Return whether a derived run was written to its end; None if there is no such run.

    Raises
    ------
    PublishError
        If the server is away.
    """
    with server_errors(f"run {uid}"):
        try:
            return "stop" in container[uid].metadata
        except KeyError:
            return None


@contextmanager
def server_errors(what: str) -> Iterator[None]:
    """Raise the errors of a connection as `PublishError`."""
    import httpx
    from tiled.client.utils import ClientError

    try:
        yield
    except (httpx.HTTPError, ClientError, OSError) as error:
        raise PublishError(f"expected to read {what} from the Tiled server: {error}") from error


def _read(
    container: "Container",
    prediction: PublishedPrediction,
    stream: str,
    needed: tuple[str, ...],
    wanted: tuple[str, ...] = (),
) -> dict[str, FloatArray]:
    """Return columns of a stream of one event, float64, (n,) each: all needed, and the wanted that exist."""
    with server_errors(f"the curves of run {prediction.uid}"), _unknown_form(prediction, stream):
        run: Any = container[prediction.uid]
        if "stop" not in run.metadata:
            raise PublishError(
                f"expected the whole run {prediction.uid}, found a part of it: it is being written, ask again"
            )
        parts = _parts(run, stream)
        table = parts.pop(TABLE, None)
        columns = [] if table is None else list(table.columns)
        missing = [name for name in needed if name not in (*parts, *columns)]
        if missing:
            raise MissingDataError(
                f"expected {', '.join(missing)} in the stream {stream} of run {prediction.uid}, found "
                f"{', '.join((*parts, *columns)) or 'nothing'}: analyse its raw run again"
            )
        names = (*needed, *wanted)
        # Runs of earlier versions have an array of one row for each curve.
        found = {name: parts[name].read()[0] for name in names if name in parts}
        in_table = [name for name in names if name in columns]
        if in_table:
            rows = table.read(in_table)
            points = as_mapping(_entry(prediction, stream).get(POINTS))
            found |= {name: rows[name].to_numpy()[: points.get(name)] for name in in_table}
        return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def _parts(run: Any, stream: str) -> dict[str, Any]:
    try:
        return dict(run[stream].base.items())
    except (KeyError, AttributeError):
        return {}


def _entry(prediction: PublishedPrediction, stream: str) -> Mapping[str, Any]:
    entry = as_mapping(as_mapping(prediction.start.get(CURVES)).get(stream))
    if not entry:
        raise MissingDataError(
            f"expected the entry {CURVES}.{stream} in run {prediction.uid}, found none: it failed before "
            "there was a curve, or another version published it; analyse its raw run again"
        )
    return entry


@contextmanager
def _unknown_form(prediction: PublishedPrediction, stream: str) -> Iterator[None]:
    """Raise an entry of another type or value than this version writes as missing data."""
    try:
        yield
    except XpdmlError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise MissingDataError(
            f"expected the curve {stream} of run {prediction.uid} as this version publishes it, found "
            f"{type(error).__name__} {error}: analyse its raw run again"
        ) from error


def _measurement(prediction: PublishedPrediction) -> dict[str, Any]:
    """Return the fields that curves share with their prediction."""
    return {
        "sample": prediction.sample,
        "raw_uids": prediction.raw_uids,
        "source": str(prediction.start.get("source", "")),
        "completeness": prediction.completeness,
    }


def _reduction(prediction: PublishedPrediction) -> dict[str, Any]:
    settings = as_mapping(prediction.settings.get("reduction"))
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    """Return a value as dictionaries and lists; the client returns views of them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value


def _pair(value: Any) -> tuple[float, float]:
    low, high = value
    return float(low), float(high)


def _axis(entry: Mapping[str, Any]) -> EnergyAxis:
    return EnergyAxis(
        source=AxisSource(entry["source"]),
        offset=float(entry["offset"]),
        uncertainty=float(entry["uncertainty"]),
    )
