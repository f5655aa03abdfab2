"""Curves of a derived run read back as the records that they were written from.

The arrays stand in the streams `xanes` and `pdf`, what belongs to them in the entry `curves` of the start
document, the settings under `analysis`. A spectrum is normalised again from its absorption by the settings
that are published, which costs nothing where each column is a request. What is published comes back bit for
bit; variances and S(Q) are not, and are absent.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_xpdml.errors import MissingDataError, PublishError
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.records import (
    AxisSource,
    DetectionMode,
    EnergyAxis,
    FloatArray,
    PairDistribution,
    Prediction,
    Quality,
    Verdict,
    Xanes,
)
from bluesky_xpdml.reduction.normalisation import normalise

if TYPE_CHECKING:
    from tiled.client.container import Container

CURVES = "curves"
"""Entry of the start document: by stream, what its record says beside the arrays and the settings."""
RANGES = ("e0", "pre_edge", "post_edge", "degree", "pre_edge_degree")
"""Settings of a reduction by which pre-edge and post-edge are found again."""


def curves_summary(prediction: Prediction) -> dict[str, Any] | None:
    """Return what a start document says of the curves of its run; None where there are none.

    Parameters
    ----------
    prediction
        The prediction, also one that failed.
    """
    said: dict[str, Any] = {}
    if prediction.xanes is not None:
        xanes = prediction.xanes
        said["xanes"] = {
            "quality": _told(xanes.quality),
            "mode": xanes.mode,
            "axis": {
                "source": xanes.axis.source,
                "offset": xanes.axis.offset,
                "uncertainty": xanes.axis.uncertainty,
            },
        }
    if prediction.pdf is not None:
        said["pdf"] = {
            "quality": _told(prediction.pdf.quality),
            "composition": prediction.pdf.composition,
            "scale_uncertainty": prediction.pdf.scale_uncertainty,
        }
    return said or None


def read_xanes(container: "Container", prediction: PublishedPrediction) -> Xanes:
    """Return the spectrum that a prediction was read from.

    Parameters
    ----------
    container
        Where the derived runs are.
    prediction
        Of one spectrum, technique `xanes`.

    Raises
    ------
    MissingDataError
        If the run holds no spectrum, or one that an earlier version published.
    PublishError
        If the server is away, or the run is still being written.
    """
    said, reduction = _said(prediction, "xanes"), _reduction(prediction)
    data = _read(container, prediction, "xanes", ("energy", "mu"))
    missing = [name for name in RANGES if name not in reduction]
    if missing:
        raise MissingDataError(
            f"expected {', '.join(missing)} in the settings of run {prediction.uid}, found none: "
            "analyse its raw run again"
        )
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
        mode=DetectionMode(said["mode"]),
        axis=_axis(said["axis"]),
        settings=reduction,
        sample=prediction.sample,
        raw_uids=prediction.raw_uids,
        source=_source(prediction),
        completeness=prediction.completeness,
        quality=_quality(said["quality"]),
    )


def read_distribution(
    container: "Container", prediction: PublishedPrediction, *, over_q: bool
) -> PairDistribution:
    """Return the pair distribution function that a prediction was read from.

    Parameters
    ----------
    container
        Where the derived runs are.
    prediction
        Of one pattern, technique `pdf` or `dpdf`.
    over_q
        Whether I(Q) and F(Q) are wanted too, where there are any: three more requests.

    Raises
    ------
    MissingDataError
        If the run holds no pair distribution function, or one that an earlier version published.
    PublishError
        If the server is away, or the run is still being written.
    """
    said = _said(prediction, "pdf")
    data = _read(container, prediction, "pdf", ("r", "g_r"), ("q", "i_q", "f_q") if over_q else ())
    scale = said.get("scale_uncertainty")
    return PairDistribution(
        r=data["r"],
        g=data["g_r"],
        q=data.get("q"),
        intensity=data.get("i_q"),
        f=data.get("f_q"),
        composition={symbol: float(share) for symbol, share in said["composition"].items()},
        settings=_reduction(prediction),
        scale_uncertainty=None if scale is None else float(scale),
        sample=prediction.sample,
        raw_uids=prediction.raw_uids,
        source=_source(prediction),
        completeness=prediction.completeness,
        quality=_quality(said["quality"]),
    )


def is_whole(container: "Container", uid: str) -> bool | None:
    """Return whether a derived run was written to its end; None where there is none.

    Parameters
    ----------
    container
        Where the derived runs are.
    uid
        Of the derived run.

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
    """Turn the errors of a connection into one of ours.

    Parameters
    ----------
    what
        Was asked for, for people.
    """
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
    """Return columns of a stream of one event, float64, (n,) each: all needed, and the wanted it has."""
    with server_errors(f"the curves of run {prediction.uid}"):
        run: Any = container[prediction.uid]
        if "stop" not in run.metadata:
            raise PublishError(
                f"expected the whole run {prediction.uid}, found a part of it: it is being written, ask again"
            )
        parts = _parts(run, stream)
        missing = [name for name in needed if name not in parts]
        if missing:
            raise MissingDataError(
                f"expected {', '.join(missing)} in the stream {stream} of run {prediction.uid}, found "
                f"{', '.join(parts) or 'nothing'}: analyse its raw run again"
            )
        found = {name: parts[name].read() for name in (*needed, *wanted) if name in parts}
    return {name: np.asarray(values, dtype=np.float64)[0] for name, values in found.items()}


def _parts(run: Any, stream: str) -> dict[str, Any]:
    try:
        return dict(run[stream].base.items())
    except KeyError:
        return {}


def _said(prediction: PublishedPrediction, stream: str) -> Mapping[str, Any]:
    said = prediction.start.get(CURVES, {}).get(stream)
    if said is None:
        raise MissingDataError(
            f"expected the entry {CURVES}.{stream} in run {prediction.uid}, found none: it failed before "
            "there was a curve, or an earlier version published it; analyse its raw run again"
        )
    found: Mapping[str, Any] = said
    return found


def _reduction(prediction: PublishedPrediction) -> dict[str, Any]:
    settings: Mapping[str, Any] = prediction.start["analysis"]["settings"].get("reduction", {})
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    """Return a value as dictionaries and lists; the client gives views of them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _pair(value: Any) -> tuple[float, float]:
    low, high = value
    return float(low), float(high)


def _axis(said: Mapping[str, Any]) -> EnergyAxis:
    return EnergyAxis(
        source=AxisSource(said["source"]),
        offset=float(said["offset"]),
        uncertainty=float(said["uncertainty"]),
    )


def _told(quality: Quality) -> dict[str, object]:
    return {"verdict": quality.verdict, "reasons": quality.reasons}


def _quality(said: Mapping[str, Any]) -> Quality:
    return Quality(verdict=Verdict(said["verdict"]), reasons=tuple(said["reasons"]))


def _source(prediction: PublishedPrediction) -> str:
    return str(prediction.start.get("source", ""))
