"""From a spectrum and a pair distribution function of one sample to a prediction.

One forest a class sees both curves at once. The oxidation state fuses the edge position with what that forest
says; the coordination number and the polyhedron are the forest's. The bond length is the weighted mean of
what the two single bundles answer, with the weight that stood best on formulas which none of them had seen.
A sample that lacks one of the two is answered by the other, and the prediction says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.errors import BundleError, MissingDataError, XpdmlError
from bluesky_xpdml.features.joint import joint_rows
from bluesky_xpdml.features.pdf import pdf_features
from bluesky_xpdml.models import observation as of_xanes
from bluesky_xpdml.models import predict_pdf as of_pdf
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.class_answers import likeliest_polyhedron, mean_of_classes
from bluesky_xpdml.models.observation import XanesObservation, observe
from bluesky_xpdml.models.predict import DISAGREEMENT, novelty_diagnostics, predict_xanes
from bluesky_xpdml.models.predict_pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes_answers import oxidation_state
from bluesky_xpdml.records import (
    Estimate,
    FloatArray,
    PairDistribution,
    Prediction,
    Verdict,
    Xanes,
)
from bluesky_xpdml.vocabulary import Modality

STACKS = "stacks"
"""Entry of a manifest: by `xanes` and `pdf`, name, version and hash of the single bundle it stands on."""
TOLD = ("oxidation_state", "coordination_number", "bond_length")
"""Answers of the single bundles that are told beside the joint one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Singles:
    """What each measurement says alone."""

    xanes: Prediction
    pdf: Prediction


def predict_joint(
    xanes: Xanes, distribution: PairDistribution, store: BundleStore, modality: Modality | str
) -> Prediction:
    """Predict from a K-edge spectrum and a pair distribution function of the same sample.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    distribution
        Total, or metal-differential, pair distribution function.
    store
        Where the joint bundle, and the single ones that it stands on, are found.
    modality
        `xanes+pdf` or `xanes+dpdf`.

    Returns
    -------
    Prediction
        With descriptors and 90 % intervals; its quality continues those of both measurements.

    Raises
    ------
    ModelNotFoundError
        If there is no bundle for the element and modality.
    BundleError
        If the bundle was trained on other features, or stands on single bundles that are not there.
    FeatureError, ReductionError
        If a curve does not show what the models look at.
    """
    kind = Modality(modality)
    bundle = store.find(xanes.element, xanes.edge, kind)
    _require_input(bundle)
    stacked = _stacked(bundle, store, kind)
    singles = Singles(
        xanes=predict_xanes(xanes, stacked),
        pdf=predict_pdf(distribution, stacked, kind.curve, element=xanes.element),
    )
    observation = observe(xanes)
    rows = joint_rows(observation.features, pdf_features(distribution.r, distribution.g))
    expected = expected_states(bundle, rows)
    return Prediction(
        technique=str(kind),
        element=xanes.element,
        edge=xanes.edge,
        quality=singles.xanes.quality.merge(singles.pdf.quality).suspect(*_disagreements(singles)),
        descriptors=_answers(bundle, observation, rows, expected, singles),
        models=(bundle.reference, *singles.xanes.models, *singles.pdf.models),
        sample=xanes.sample,
        raw_uids=tuple(dict.fromkeys((*xanes.raw_uids, *distribution.raw_uids))),
        source=" + ".join(name for name in (xanes.source, distribution.source) if name),
        completeness=min(xanes.completeness, distribution.completeness),
        settings={
            "modality": str(kind),
            "xanes": dict(singles.xanes.settings),
            "pdf": dict(singles.pdf.settings),
        },
        diagnostics={
            **singles.xanes.diagnostics,
            **{f"pdf_{name}": value for name, value in singles.pdf.diagnostics.items()},
            **_told(singles),
            "joint_forest_oxidation_state": float(np.dot(observation.weights(), expected)),
            **{
                f"joint_{name}": value
                for name, value in novelty_diagnostics(
                    bundle, rows[np.argmin(np.abs(observation.shifts))]
                ).items()
            },
        },
        xanes=xanes,
        pdf=distribution,
    )


def predict_sample(
    xanes: Xanes | None,
    distribution: PairDistribution | None,
    store: BundleStore,
    modality: Modality | str,
    *,
    element: str,
) -> Prediction:
    """Predict from what was measured of a sample: both ways, or whichever of the two can be used.

    Parameters
    ----------
    xanes
        Reduced spectrum; None where none was measured.
    distribution
        Pair distribution function; None where none was measured.
    store
        Where the bundles are found.
    modality
        `xanes+pdf` or `xanes+dpdf`: what is asked for.
    element
        The metal, a chemical symbol.

    Returns
    -------
    Prediction
        Its technique is what answered; where that is not the modality, a note of its quality says why.

    Raises
    ------
    MissingDataError
        If neither measurement can be answered.
    """
    kind = Modality(modality)
    missing = list(_unusable(xanes, distribution, kind, element))
    if not missing and xanes is not None and distribution is not None:
        try:
            return predict_joint(xanes, distribution, store, kind)
        except XpdmlError as error:
            missing.append(str(error))
    reasons = [f"{kind}: {'; '.join(missing)}"]
    for record in (xanes, distribution):
        try:
            single = _single(record, store, kind, element)
        except XpdmlError as error:
            reasons.append(str(error))
            continue
        if single is not None:
            note = f"joint prediction degraded to {single.technique}: {'; '.join(missing)}"
            return single.with_quality(single.quality.note(note))
    raise MissingDataError(f"{element}: nothing can be answered: {'; '.join(reasons)}")


def expected_states(bundle: Bundle, rows: FloatArray) -> FloatArray:
    """Return the valence that the joint forest sees on each shifted axis [e], (s,).

    Parameters
    ----------
    bundle
        Joint models of one element.
    rows
        Features of both curves, (s, 164).
    """
    classes = np.asarray(bundle.manifest["targets"]["oxidation_state"]["classes"], dtype=float)
    shares = bundle.forests["oxidation_state"].predict(rows)
    return np.asarray(np.einsum("sk,k->s", shares, classes) / shares.sum(axis=1))


def _answers(
    bundle: Bundle, observation: XanesObservation, rows: FloatArray, expected: FloatArray, singles: Singles
) -> dict[str, Estimate]:
    """Answer every target: surroundings as the spectrum alone tells them."""
    targets, weights = bundle.manifest["targets"], observation.weights()
    shares = {
        target: np.einsum("s,sk->k", weights, bundle.forests[target].predict(rows))
        for target in ("coordination_number", "geometry")
        if target in targets
    }
    found = {name: each for name, each in singles.xanes.descriptors.items() if name not in targets}
    found["oxidation_state"] = oxidation_state(bundle, observation, expected)
    found["coordination_number"] = mean_of_classes(
        targets["coordination_number"], shares["coordination_number"]
    )
    if "geometry" in shares:
        found["geometry"] = likeliest_polyhedron(targets["geometry"], shares["geometry"])
    by_xanes, by_pdf = (each.descriptors["bond_length"] for each in (singles.xanes, singles.pdf))
    weight = float(targets["bond_length"]["weight"])
    value = weight * by_xanes.value + (1.0 - weight) * by_pdf.value
    half_width = targets["bond_length"]["interval_factor"] * (
        weight * 0.5 * (by_xanes.high - by_xanes.low) + (1.0 - weight) * 0.5 * (by_pdf.high - by_pdf.low)
    )
    found["bond_length"] = Estimate(
        value=value, low=value - half_width, high=value + half_width, unit=targets["bond_length"]["unit"]
    )
    return found


def _disagreements(singles: Singles) -> Iterator[str]:
    """Say where the two measurements tell different samples."""
    states = [each.descriptors["oxidation_state"].value for each in (singles.xanes, singles.pdf)]
    if abs(states[0] - states[1]) > DISAGREEMENT:
        yield (
            f"spectrum and PDF disagree: oxidation state {states[0]:.2f} by the one, {states[1]:.2f} by the "
            "other; another sample, or a mixture?"
        )
    first, second = (each.descriptors["bond_length"] for each in (singles.xanes, singles.pdf))
    if not first.low <= second.value <= first.high and not second.low <= first.value <= second.high:
        yield (
            f"spectrum and PDF disagree: bond length {first.value:.3f} angstrom by the one, "
            f"{second.value:.3f} by the other, beyond both intervals"
        )


def _told(singles: Singles) -> dict[str, float]:
    return {
        f"{what}_{name}": single.descriptors[name].value
        for what, single in (("xanes", singles.xanes), ("pdf", singles.pdf))
        for name in TOLD
    }


def _unusable(
    xanes: Xanes | None, distribution: PairDistribution | None, kind: Modality, element: str
) -> Iterator[str]:
    """Say what keeps two measurements from being asked together."""
    curve = "PDF" if kind is Modality.XANES_PDF else "differential PDF"
    if xanes is None:
        yield "no spectrum was measured"
    elif xanes.quality.verdict is Verdict.FAILED:
        yield f"the spectrum failed: {'; '.join(xanes.quality.reasons)}"
    elif xanes.element != element:
        yield f"the spectrum is of {xanes.element}, not of {element}"
    if distribution is None:
        yield f"no {curve} was measured"
    elif distribution.quality.verdict is Verdict.FAILED:
        yield f"the {curve} failed: {'; '.join(distribution.quality.reasons)}"


def _single(
    record: Xanes | PairDistribution | None, store: BundleStore, kind: Modality, element: str
) -> Prediction | None:
    """Ask one measurement alone; None where it is missing, failed, or of another element."""
    if record is None or record.quality.verdict is Verdict.FAILED:
        return None
    if isinstance(record, Xanes):
        return predict_xanes(record, store) if record.element == element else None
    return replace(predict_pdf(record, store, kind.curve, element=element), pdf=record)


def _stacked(bundle: Bundle, store: BundleStore, kind: Modality) -> BundleStore:
    """Return a store in which the single bundles are those that the joint one was trained to stand on."""
    named = bundle.manifest[STACKS]
    asked = {
        "xanes": store.find(bundle.element, bundle.manifest["edge"], "xanes"),
        "pdf": store.find(bundle.element, kind.curve.edge, kind.curve),
    }
    if all(asked[part].sha256 == said["sha256"] for part, said in named.items()):
        return store
    found: list[Bundle] = []
    for said in named.values():
        single = store.load(f"{said['name']}-{said['version']}")
        if single.sha256 != said["sha256"]:
            raise BundleError(
                f"{bundle.reference.name}-{bundle.reference.version} stands on {said['name']}-"
                f"{said['version']} with SHA-256 {said['sha256'][:12]}..., found {single.sha256[:12]}...: "
                "train the joint bundle anew"
            )
        found.append(single)
    pins = {said["name"]: int(said["version"]) for said in named.values()}
    return BundleStore(store.folder, found, pins)


def _require_input(bundle: Bundle) -> None:
    expected = bundle.manifest["input"]
    computed = {
        "xanes": of_xanes.input_description(bundle.element),
        "pdf": of_pdf.input_description(),
    }
    for part, found in computed.items():
        for key, value in found.items():
            if expected[part].get(key) != value:
                raise BundleError(
                    f"{bundle.reference.name}-{bundle.reference.version} expects {part} {key} "
                    f"{expected[part].get(key)}, this version computes {value}: use the bundle with the "
                    "version it came with, or train it anew"
                )
