"""A prediction as a small Bluesky run of its own, which everything that reads Bluesky runs can read."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import numpy as np

from bluesky_xpdml import __version__
from bluesky_xpdml.publish.curves import CURVES, curves_summary
from bluesky_xpdml.records import (
    PURPOSE,
    Estimate,
    Explanation,
    FloatArray,
    PairDistribution,
    Prediction,
    Quality,
    Verdict,
    Xanes,
)


def explanation_columns(explanation: Explanation) -> dict[str, tuple[FloatArray, str]]:
    """Return the columns of the stream `explanation` with their units, all of one length.

    Parameters
    ----------
    explanation
        Of a prediction.
    """
    columns = {"grid": (explanation.grid, explanation.unit)}
    for target, attribution in explanation.attributions.items():
        columns[f"attribution_{target}"] = (attribution.features, attribution.unit)
        columns[f"importance_{target}"] = (attribution.importance, "1")
        columns[f"permutation_{target}"] = (attribution.permutation, "1")
    return columns


def explanation_summary(explanation: Explanation) -> dict[str, Any]:
    """Return what the start document says: by descriptor, what adds up to the answer; and the regions.

    Parameters
    ----------
    explanation
        Of a prediction.
    """
    return {
        "unit": explanation.unit,
        "features": explanation.features,
        "edge_share": explanation.edge_share,
        "regions": {region.name: [region.low, region.high] for region in explanation.regions},
        "targets": {
            target: {
                "unit": attribution.unit,
                "base": attribution.base,
                "regions": {region.name: region.attribution[target] for region in explanation.regions},
                "importance": {region.name: region.importance[target] for region in explanation.regions},
                "others": attribution.others,
                "answer": attribution.answer,
            }
            for target, attribution in explanation.attributions.items()
        },
    }


def plain(value: object) -> object:
    """Return a value as plain JSON; numbers that are not finite become None, which a mapping leaves out.

    Parameters
    ----------
    value
        Anything that stands in a record.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"e0": np.float64(7112.0), "width": float("nan"), "range": (1, 2), "a.b": True})
    {'e0': 7112.0, 'range': [1, 2], 'a_b': True}
    """
    if isinstance(value, Mapping):
        return plain_mapping(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: object) -> object:
    single = value.value if isinstance(value, Enum) else value
    single = single.item() if isinstance(single, np.generic) else single
    if isinstance(single, float):
        return float(single) if math.isfinite(single) else None
    return single if isinstance(single, bool | int | None) else str(single)


def plain_mapping(mapping: Mapping[str, object]) -> dict[str, object]:
    """Return a mapping as plain JSON, without the entries that hold nothing.

    Event documents forbid `.` and `/` in keys; both become `_`.

    Parameters
    ----------
    mapping
        Anything that stands in a record, by name.

    Examples
    --------
    >>> plain_mapping({"a/b": None, "c": 1})
    {'c': 1}
    """
    entries = ((str(key).replace(".", "_").replace("/", "_"), plain(value)) for key, value in mapping.items())
    return {key: value for key, value in entries if value is not None}


Document: TypeAlias = dict[str, Any]
NamedDocument: TypeAlias = tuple[str, Document]

RESOLVED = "resolved_settings"
"""Entry of a prediction's settings that stands beside them in the run: it does not count for the uid."""

_NAMESPACE = UUID("6f1f2d0e-5f0b-5b0c-9d0a-3f0a5f4a7c11")


def derived_run(prediction: Prediction, *, clock: Callable[[], float] = time.time) -> list[NamedDocument]:
    """Return the documents of the run that says what was predicted: start, streams, stop.

    The streams are `xanes` (one event: `energy` [eV], `mu` [any unit], `mu_norm`, `mu_flat`, (n,) each),
    where there is a spectrum; `pdf` (one event: `q` [1/angstrom], `i_q`, `f_q`, (n,) each, `r` [angstrom],
    `g_r`, (m,) each), where there is a pair distribution function; `predictions` (one event of single
    numbers), where there is an answer; and `explanation` (one event: `grid` [eV above the metal foil, or
    angstrom], and `attribution_`, `importance_` and `permutation_` of each descriptor, (n_features,) each),
    where the prediction is explained. Everything but the time is determined by the prediction, the uids too.

    Parameters
    ----------
    prediction
        The prediction, also one that failed.
    clock
        Gives the time that the documents carry [s since 1970].

    Examples
    --------
    >>> quality = Quality().failed("no model for Zn")
    >>> failed = Prediction(technique="xanes", element="Zn", edge="K", quality=quality)
    >>> [name for name, document in derived_run(failed)]
    ['start', 'stop']
    """
    now = clock()
    start: Document = {"uid": run_uid(prediction), "time": now, **summary(prediction)}
    streams = []
    if prediction.xanes is not None:
        streams.append(("xanes", *_arrays(_xanes_columns(prediction.xanes))))
    if prediction.pdf is not None:
        streams.append(("pdf", *_arrays(_pdf_columns(prediction.pdf))))
    if prediction.descriptors:
        streams.append(("predictions", *_numbers(prediction)))
    if prediction.explanation is not None:
        streams.append(("explanation", *_arrays(explanation_columns(prediction.explanation))))
    documents: list[NamedDocument] = [("start", start)]
    for name, data_keys, data in streams:
        documents += _stream(start["uid"], name, data_keys, data, now)
    documents.append(("stop", _stop(prediction, start["uid"], [name for name, *_ in streams], now)))
    return documents


def summary(prediction: Prediction) -> Document:
    """Return what the start document says of a prediction, as plain JSON without uid and time.

    Parameters
    ----------
    prediction
        The prediction, also one that failed.

    Examples
    --------
    >>> quality = Quality().failed("no model for Zn")
    >>> failed = Prediction(technique="xanes", element="Zn", edge="K", quality=quality)
    >>> summary(failed)["quality"]
    {'verdict': 'failed', 'reasons': ['no model for Zn']}
    """
    finite, quality = _usable(prediction)
    return plain_mapping(
        {
            "purpose": PURPOSE,
            "analysis": _analysis(prediction),
            "raw_uid": prediction.raw_uids[0] if prediction.raw_uids else None,
            "raw_uids": prediction.raw_uids,
            "source": prediction.source,
            "technique": prediction.technique,
            "element": prediction.element,
            "edge": prediction.edge,
            "sample": {
                "name": prediction.sample.name,
                "uid": prediction.sample.uid,
                "composition": prediction.sample.composition,
            },
            "origin": asdict(prediction.origin),
            "models": [
                {"name": model.name, "version": model.version, "sha256": model.sha256}
                for model in prediction.models
            ],
            "completeness": prediction.completeness,
            "quality": {"verdict": quality.verdict, "reasons": quality.reasons},
            "descriptors": {name: _interval(descriptor) for name, descriptor in finite.items()},
            "diagnostics": prediction.diagnostics,
            CURVES: curves_summary(prediction),
            "explanation": None
            if prediction.explanation is None
            else explanation_summary(prediction.explanation),
        }
    )


def run_uid(prediction: Prediction) -> str:
    """Return the uid of the derived run: the same question to the same models has the same one.

    It is a UUIDv5 of the raw uids, the element, the hashes of the bundles and the settings. Where there is no
    raw run, the source and the spectrum take its place. Failures also count their reasons, so that a run that
    could not be analysed for want of time does not hide the analysis that is made up for later; so do
    explanations, which may be asked for later.

    Parameters
    ----------
    prediction
        The prediction, also one that failed.
    """
    identity: dict[str, object] = {
        "technique": prediction.technique,
        "element": prediction.element,
        "raw": prediction.raw_uids or (prediction.source, _digest(prediction)),
        "models": [model.sha256 for model in prediction.models],
        "settings": _sha256(_counted(prediction)),
    }
    if prediction.explanation is not None:
        identity["explained"] = list(prediction.explanation.attributions)
    if prediction.quality.verdict is Verdict.FAILED:
        identity["failed"] = prediction.quality.reasons
    return str(uuid5(_NAMESPACE, _canonical(identity)))


def _digest(prediction: Prediction) -> str:
    """Return a hash of what was measured; empty where nothing could be reduced."""
    columns: list[FloatArray] = []
    if prediction.xanes is not None:
        columns += [prediction.xanes.energy, prediction.xanes.mu]
    if prediction.pdf is not None:
        columns += [prediction.pdf.r, prediction.pdf.g]
    return hashlib.sha256(b"".join(values.tobytes() for values in columns)).hexdigest() if columns else ""


def _counted(prediction: Prediction) -> Document:
    """Return the settings that the uid of the run depends on."""
    return plain_mapping({name: value for name, value in prediction.settings.items() if name != RESOLVED})


def _analysis(prediction: Prediction) -> Document:
    settings = _counted(prediction)
    resolved = prediction.settings.get(RESOLVED)
    return {
        "package": "bluesky_xpdml",
        "version": __version__,
        "profile": settings.get("profile", ""),
        "settings": settings,
        "settings_sha256": _sha256(settings),
        **({} if resolved is None else {RESOLVED: resolved}),
    }


def _usable(prediction: Prediction) -> tuple[Mapping[str, Estimate], Quality]:
    """Return the descriptors that are numbers, and the quality that names those that are not."""
    finite = {name: one for name, one in prediction.descriptors.items() if _is_finite(one)}
    lost = [
        f"{name} came out without a finite value" for name in prediction.descriptors if name not in finite
    ]
    return finite, prediction.quality.suspect(*lost)


def _is_finite(descriptor: Estimate) -> bool:
    return all(math.isfinite(number) for number in (descriptor.value, descriptor.low, descriptor.high))


def _interval(descriptor: Estimate) -> Document:
    return {
        "value": float(descriptor.value),
        "low": float(descriptor.low),
        "high": float(descriptor.high),
        "unit": descriptor.unit,
        "probabilities": descriptor.probabilities,
    }


def _xanes_columns(xanes: Xanes) -> dict[str, tuple[FloatArray, str]]:
    return {
        "energy": (xanes.energy, "eV"),
        "mu": (xanes.mu, ""),
        "mu_norm": (xanes.norm, ""),
        "mu_flat": (xanes.flat, ""),
    }


def _pdf_columns(pdf: PairDistribution) -> dict[str, tuple[FloatArray, str]]:
    """Return the curves that there are: a pair distribution function from a file has none over q."""
    columns = {
        "q": (pdf.q, "1/angstrom"),
        "i_q": (pdf.intensity, ""),
        "f_q": (pdf.f, "1/angstrom"),
        "r": (pdf.r, "angstrom"),
        "g_r": (pdf.g, "1/angstrom^2"),
    }
    return {name: (values, unit) for name, (values, unit) in columns.items() if values is not None}


def _arrays(columns: Mapping[str, tuple[FloatArray, str]]) -> tuple[Document, Document]:
    """Return data keys and data of one event that holds arrays."""
    keys = {
        name: {
            "dtype": "array",
            "dtype_numpy": "<f8",
            "shape": [len(values)],
            "source": "bluesky_xpdml",
            "units": unit,
        }
        for name, (values, unit) in columns.items()
    }
    return keys, {name: values.tolist() for name, (values, _) in columns.items()}


def _numbers(prediction: Prediction) -> tuple[Document, Document]:
    """Return every number of the answer under its own name; floats only, or column types would change."""
    data: dict[str, float] = {}
    units: dict[str, str] = {}
    for name, descriptor in prediction.descriptors.items():
        values = {name: descriptor.value, f"{name}_low": descriptor.low, f"{name}_high": descriptor.high}
        units |= dict.fromkeys(values, descriptor.unit)
        data |= values
        probabilities = descriptor.probabilities or {}
        data |= {f"{name}_probability_{label}": chance for label, chance in probabilities.items()}
    data = {name.replace(".", "_").replace("/", "_"): float(value) for name, value in data.items()}
    keys = {
        name: {
            "dtype": "number",
            "dtype_numpy": "<f8",
            "shape": [],
            "source": "bluesky_xpdml",
            "units": units.get(name, "1"),
        }
        for name in data
    }
    return keys, data


def _stream(run: str, name: str, data_keys: Document, data: Document, now: float) -> list[NamedDocument]:
    descriptor = {
        "uid": str(uuid5(_NAMESPACE, f"{run}/{name}")),
        "run_start": run,
        "time": now,
        "name": name,
        "data_keys": data_keys,
        "object_keys": {"xpdml": list(data_keys)},
        "configuration": {},
        "hints": {},
    }
    event = {
        "uid": str(uuid5(_NAMESPACE, f"{run}/{name}/1")),
        "descriptor": descriptor["uid"],
        "time": now,
        "seq_num": 1,
        "data": data,
        "timestamps": dict.fromkeys(data, now),
        "filled": {},
    }
    return [("descriptor", descriptor), ("event", event)]


def _stop(prediction: Prediction, run: str, streams: list[str], now: float) -> Document:
    failed = prediction.quality.verdict is Verdict.FAILED
    return {
        "uid": str(uuid5(_NAMESPACE, f"{run}/stop")),
        "run_start": run,
        "time": now,
        "exit_status": "fail" if failed else "success",
        "reason": "; ".join(prediction.quality.reasons) if failed else "",
        "num_events": dict.fromkeys(streams, 1),
    }


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sha256(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()
