"""A prediction as a small Bluesky run of its own, which everything that reads Bluesky runs can read."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import TypeAlias
from uuid import UUID, uuid5

import numpy as np

from bluesky_xpdml import __version__
from bluesky_xpdml.publish import layout
from bluesky_xpdml.publish.curves import CURVES, POINTS
from bluesky_xpdml.publish.published import ACCESS_TAGS, quality_entry
from bluesky_xpdml.records import (
    PURPOSE,
    Estimate,
    Explanation,
    FloatArray,
    ModelReference,
    Origin,
    PairDistribution,
    Prediction,
    Quality,
    Sample,
    Verdict,
    Xanes,
)
from bluesky_xpdml.vocabulary import ANALYSIS_REVISION, Descriptor, Reason, ReasonCode

Document: TypeAlias = layout.Document
NamedDocument: TypeAlias = layout.NamedDocument
Columns: TypeAlias = Mapping[str, tuple[FloatArray, str]]
"""Arrays of one event with their units, by name."""

RESOLVED = "resolved_settings"
"""Entry of a prediction's settings that is published beside them and is not part of the run's identity."""
DEEPEST = 32
"""Levels of nested entries that are published; servers refuse more than a few hundred."""
LONGEST = 100_000
"""Longer texts and keys are cut [characters]: servers refuse requests of tens of megabytes."""
LARGEST = 2**63
"""Larger integers are published as floats: no server stores them."""

_NAMESPACE = UUID("6f1f2d0e-5f0b-5b0c-9d0a-3f0a5f4a7c11")


def plain(value: object, depth: int = 0) -> object:
    """Return a value as JSON that every server stores; what has no JSON form becomes None.

    Text that is no Unicode (lone surrogates) and NUL characters are escaped, long texts are cut, integers
    beyond 64 bits become floats, and entries below `DEEPEST` levels become text.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"e0": np.float64(7112.0), "width": float("nan"), "range": (1, 2), "a.b": True})
    {'e0': 7112.0, 'range': [1, 2], 'a_b': True}
    """
    if depth > DEEPEST:
        return type(value).__name__
    if isinstance(value, Mapping):
        return plain_mapping(value, depth)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return _plain_scalar(value)


def plain_mapping(mapping: Mapping[str, object], depth: int = 0) -> dict[str, object]:
    """Return a mapping as plain JSON, without the entries that hold nothing.

    Event documents forbid `.` and `/` in keys; both become `_`.
    """
    entries = ((plain_key(key), plain(value, depth + 1)) for key, value in mapping.items())
    return {key: value for key, value in entries if value is not None}


def _plain_scalar(value: object) -> object:
    single = value.value if isinstance(value, Enum) else value
    single = single.item() if isinstance(single, np.generic) else single
    if isinstance(single, bool | None):
        return single
    if isinstance(single, int) and abs(single) < LARGEST:
        return int(single)
    if isinstance(single, int | float):
        return _plain_float(single)
    return _plain_text(str(single))


def _plain_float(value: float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _plain_text(text: str) -> str:
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def plain_key(key: object) -> str:
    """Return a key as start documents hold it: not empty, without dots and slashes."""
    return _plain_text(str(key)).replace(".", "_").replace("/", "_") or "_"


def derived_run(prediction: Prediction, *, clock: Callable[[], float] = time.time) -> list[NamedDocument]:
    """Return the documents of the run of a prediction: start, streams, stop.

    The streams, of one event each, are `xanes` (`energy` [eV], `mu` [any unit], `mu_norm`, `mu_flat`), if
    there is a spectrum; `pdf` (`q` [1/angstrom], `i_q`, `f_q`, (n,), and `r` [angstrom], `g_r`, (m,)), if
    there is a pair distribution function; `predictions` (single numbers), if there is an answer; and
    `explanation` (`grid` [eV above the metal foil, or angstrom], and `attribution_`, `importance_` and
    `permutation_` of each descriptor, (n_features,)), if the prediction is explained. All uids follow
    from the prediction.

    Parameters
    ----------
    prediction
        The prediction, also a failed one.
    clock
        Returns the time of the documents [s since 1970].

    Examples
    --------
    >>> from bluesky_xpdml.vocabulary import Technique
    >>> quality = Quality().failed(Reason("no model for Zn", ReasonCode.MODEL_MISSING))
    >>> failed = Prediction(technique=Technique.XANES, element="Zn", edge="K", quality=quality)
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
        streams.append(("explanation", *_arrays(_explanation_columns(prediction.explanation))))
    documents: list[NamedDocument] = [("start", start)]
    for name, data_keys, data in streams:
        documents += _stream(start["uid"], name, data_keys, data, now)
    documents.append(("stop", _stop(prediction, start["uid"], [name for name, *_ in streams], now)))
    return documents


def failed_run(documents: Sequence[NamedDocument], reason: Reason) -> list[NamedDocument]:
    """Return a derived run without its answer, for a reason that came up after it was made."""
    start, stop = documents[0][1], documents[-1][1]
    uid = str(uuid5(_NAMESPACE, f"{start['uid']}/failed/{reason}"))
    left_out = {CURVES, "explanation", "diagnostics"}
    quality = plain(quality_entry(Quality().failed(reason)))
    changed = {"uid": uid, "quality": quality, "descriptors": {}}
    failed = {key: value for key, value in start.items() if key not in left_out} | changed
    ended = stop | {
        "uid": str(uuid5(_NAMESPACE, f"{uid}/stop")),
        "run_start": uid,
        "exit_status": "fail",
        "reason": _plain_text(str(reason)),
        "num_events": {},
    }
    return [("start", failed), ("stop", ended)]


def summary(prediction: Prediction) -> Document:
    """Return the start document of a prediction, also a failed one, as plain JSON without uid and time."""
    finite, quality = _usable(prediction)
    return plain_mapping(
        {
            "purpose": PURPOSE,
            ACCESS_TAGS: prediction.origin.access_tags or None,
            "analysis": _analysis(prediction),
            "raw_uid": prediction.raw_uids[0] if prediction.raw_uids else None,
            "raw_uids": prediction.raw_uids,
            "source": prediction.source,
            "technique": prediction.technique,
            "element": prediction.element,
            "edge": prediction.edge,
            "sample": _entries(prediction.sample),
            "origin": {**_entries(prediction.origin), "access_tags": None},
            "models": [_entries(model) for model in prediction.models],
            "completeness": prediction.completeness,
            "quality": quality_entry(quality),
            "descriptors": {name: _interval(descriptor) for name, descriptor in finite.items()},
            "diagnostics": prediction.diagnostics,
            CURVES: _curves(prediction),
            "explanation": None
            if prediction.explanation is None
            else _explanation_summary(prediction.explanation),
        }
    )


def _curves(prediction: Prediction) -> Document | None:
    """Return the entry `curves` of a start document; None if the prediction has no curves."""
    entries: Document = {}
    if prediction.xanes is not None:
        xanes = prediction.xanes
        entries["xanes"] = {
            "quality": quality_entry(xanes.quality),
            "mode": xanes.mode,
            "axis": {
                "source": xanes.axis.source,
                "offset": xanes.axis.offset,
                "uncertainty": xanes.axis.uncertainty,
            },
        }
    if prediction.pdf is not None:
        entries["pdf"] = {
            "quality": quality_entry(prediction.pdf.quality),
            "composition": prediction.pdf.composition,
            "scale_uncertainty": prediction.pdf.scale_uncertainty,
            POINTS: _points(prediction.pdf),
        }
    return entries or None


def _points(pdf: PairDistribution) -> dict[str, int]:
    curves = {"q": pdf.q, "i_q": pdf.intensity, "f_q": pdf.f, "r": pdf.r, "g_r": pdf.g}
    return {name: int(np.size(values)) for name, values in curves.items() if values is not None}


def _entries(record: Sample | Origin | ModelReference) -> Document:
    """Return the fields of a record; `asdict` would descend into mappings of any depth."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def run_uid(prediction: Prediction) -> str:
    """Return the uid of the derived run: the same data, models, settings and analysis give the same one.

    It is a UUIDv5 of the raw uids, technique, element, hashes of the bundles, settings and the
    revision of the analysis. Without a raw run, the source and the spectrum take its place. Failures also
    count their reasons, so that a run that was not analysed for lack of time does not hide a later analysis;
    explained predictions count what was explained, so that an explanation can be added.
    """
    identity: dict[str, object] = {
        "technique": prediction.technique,
        "element": prediction.element,
        "raw": prediction.raw_uids or (prediction.source, _digest(prediction)),
        "models": [model.sha256 for model in prediction.models],
        "settings": _sha256(_identifying_settings(prediction)),
        "revision": ANALYSIS_REVISION,
    }
    if prediction.explanation is not None:
        identity["explained"] = list(prediction.explanation.attributions)
    if prediction.quality.verdict is Verdict.FAILED:
        identity["failed"] = plain(prediction.quality.reasons)
    return str(uuid5(_NAMESPACE, _canonical(identity)))


def _digest(prediction: Prediction) -> str:
    """Return a hash of the measured curves; empty if nothing could be reduced."""
    columns: list[FloatArray] = []
    if prediction.xanes is not None:
        columns += [prediction.xanes.energy, prediction.xanes.mu]
    if prediction.pdf is not None:
        columns += [prediction.pdf.r, prediction.pdf.g]
    return hashlib.sha256(b"".join(values.tobytes() for values in columns)).hexdigest() if columns else ""


def _identifying_settings(prediction: Prediction) -> Document:
    """Return the settings that the uid of the run depends on."""
    return plain_mapping({name: value for name, value in prediction.settings.items() if name != RESOLVED})


def _analysis(prediction: Prediction) -> Document:
    settings = _identifying_settings(prediction)
    resolved = prediction.settings.get(RESOLVED)
    return {
        "package": "bluesky_xpdml",
        "version": __version__,
        "revision": ANALYSIS_REVISION,
        "profile": settings.get("profile", ""),
        "settings": settings,
        "settings_sha256": _sha256(settings),
        **({} if resolved is None else {RESOLVED: resolved}),
    }


def _usable(prediction: Prediction) -> tuple[Mapping[Descriptor, Estimate], Quality]:
    """Return the descriptors that are numbers, and the quality that names those that are not."""
    finite = {name: one for name, one in prediction.descriptors.items() if _is_finite(one)}
    lost = [
        Reason(f"{name} has no finite value", ReasonCode.NOT_FINITE)
        for name in prediction.descriptors
        if name not in finite
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


def _xanes_columns(xanes: Xanes) -> Columns:
    return {
        "energy": (xanes.energy, "eV"),
        "mu": (xanes.mu, ""),
        "mu_norm": (xanes.norm, ""),
        "mu_flat": (xanes.flat, ""),
    }


def _pdf_columns(pdf: PairDistribution) -> Columns:
    """Return the curves; a pair distribution function from a file has none over q."""
    columns = {
        "q": (pdf.q, "1/angstrom"),
        "i_q": (pdf.intensity, ""),
        "f_q": (pdf.f, "1/angstrom"),
        "r": (pdf.r, "angstrom"),
        "g_r": (pdf.g, "1/angstrom^2"),
    }
    return {name: (values, unit) for name, (values, unit) in columns.items() if values is not None}


def _explanation_columns(explanation: Explanation) -> Columns:
    columns: dict[str, tuple[FloatArray, str]] = {"grid": (explanation.grid, explanation.unit)}
    for target, attribution in explanation.attributions.items():
        columns[f"attribution_{target}"] = (attribution.features, attribution.unit)
        columns[f"importance_{target}"] = (attribution.importance, "1")
        columns[f"permutation_{target}"] = (attribution.permutation, "1")
    return columns


def _explanation_summary(explanation: Explanation) -> Document:
    """Return the entry of the start document: by descriptor, what adds up to the answer; and the regions."""
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


def _arrays(columns: Columns) -> tuple[Document, Document]:
    """Return data keys and data of one event that holds arrays."""
    keys = {name: data_key(unit, [len(values)]) for name, (values, unit) in columns.items()}
    return keys, {name: values.tolist() for name, (values, _) in columns.items()}


def _numbers(prediction: Prediction) -> tuple[Document, Document]:
    """Return data keys and data of one event that holds every number of the answer, as floats."""
    data: dict[str, float] = {}
    units: dict[str, str] = {}
    for name, descriptor in prediction.descriptors.items():
        values = {name: descriptor.value, f"{name}_low": descriptor.low, f"{name}_high": descriptor.high}
        units |= dict.fromkeys(values, descriptor.unit)
        data |= values
        probabilities = descriptor.probabilities or {}
        data |= {f"{name}_probability_{label}": chance for label, chance in probabilities.items()}
    data = {name.replace(".", "_").replace("/", "_"): float(value) for name, value in data.items()}
    return {name: data_key(units.get(name, "1")) for name in data}, data


def data_key(unit: str, shape: Sequence[int] = ()) -> Document:
    """Return the data key of a float column; column types must not change from row to row."""
    return {
        "dtype": "array" if shape else "number",
        "dtype_numpy": "<f8",
        "shape": list(shape),
        "source": "bluesky_xpdml",
        "units": unit,
    }


def descriptor_document(run: str, uid: str, name: str, data_keys: Document, now: float) -> Document:
    """Return the descriptor of a stream."""
    return {
        "uid": uid,
        "run_start": run,
        "time": now,
        "name": name,
        "data_keys": data_keys,
        "object_keys": {"xpdml": list(data_keys)},
        "configuration": {},
        "hints": {},
    }


def event_document(uid: str, descriptor: str, data: Document, seq_num: int, now: float) -> Document:
    """Return one event of a stream."""
    return {
        "uid": uid,
        "descriptor": descriptor,
        "time": now,
        "seq_num": seq_num,
        "data": data,
        "timestamps": dict.fromkeys(data, now),
        "filled": {},
    }


def _stream(run: str, name: str, data_keys: Document, data: Document, now: float) -> list[NamedDocument]:
    uid = str(uuid5(_NAMESPACE, f"{run}/{name}"))
    event = event_document(str(uuid5(_NAMESPACE, f"{run}/{name}/1")), uid, data, 1, now)
    return [("descriptor", descriptor_document(run, uid, name, data_keys, now)), ("event", event)]


def _stop(prediction: Prediction, run: str, streams: list[str], now: float) -> Document:
    failed = prediction.quality.verdict is Verdict.FAILED
    return {
        "uid": str(uuid5(_NAMESPACE, f"{run}/stop")),
        "run_start": run,
        "time": now,
        "exit_status": "fail" if failed else "success",
        "reason": _plain_text("; ".join(prediction.quality.reasons)) if failed else "",
        "num_events": dict.fromkeys(streams, 1),
    }


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sha256(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()
