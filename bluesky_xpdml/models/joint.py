"""From a spectrum and a pair distribution function of one sample to a prediction.

One forest per target sees both curves at once. The oxidation state combines the edge position with that
forest's valence, as in `bluesky_xpdml.models.xanes`; coordination number and polyhedron are the forest's.
The bond length is d = w d_xanes + (1 - w) d_pdf, the weighted mean of the answers of the two single bundles;
w was chosen on formulas which none of them had seen.

A sample of which only one measurement can be used is answered by that one, and the prediction says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.errors import BundleError, MissingDataError, XpdmlError
from bluesky_xpdml.features.joint import joint_rows
from bluesky_xpdml.features.pdf import pdf_features
from bluesky_xpdml.models import pdf as of_pdf
from bluesky_xpdml.models import xanes as of_xanes
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.forest import likeliest_polyhedron, mean_of_classes
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import (
    DISAGREEMENT,
    XanesObservation,
    observe,
    oxidation_state,
    predict_xanes,
)
from bluesky_xpdml.records import Estimate, FloatArray, PairDistribution, Prediction, Verdict, Xanes
from bluesky_xpdml.vocabulary import Descriptor, Modality, Reason, ReasonCode

STACKS = "stacks"
"""Entry of a manifest: by `xanes` and `pdf`, name, version and hash of the single bundle it builds on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Singles:
    """The predictions from each measurement alone."""

    xanes: Prediction
    pdf: Prediction


def predict_joint(
    xanes: Xanes, distribution: PairDistribution, store: BundleStore, modality: Modality | str
) -> Prediction:
    """Predict from a K-edge spectrum and a total or metal-differential PDF of the same sample.

    The joint bundle and the single ones below it are found in the store. The quality of the prediction
    continues those of both measurements. An error is raised if there is no bundle (ModelNotFoundError), it
    was trained on other features or on single bundles that are missing (BundleError), or a curve does not
    cover what the models need (FeatureError, ReductionError).
    """
    kind = Modality(modality)
    bundle = store.find(xanes.element, xanes.edge, kind)
    bundle.require_input(of_xanes.input_description(bundle.element), "xanes")
    bundle.require_input(of_pdf.input_description(), "pdf")
    stacked = _stacked_store(bundle, store, kind)
    singles = _Singles(
        xanes=predict_xanes(xanes, stacked),
        pdf=predict_pdf(distribution, stacked, kind.curve, element=xanes.element),
    )
    observation = observe(xanes)
    rows = joint_rows(observation.features, pdf_features(distribution.r, distribution.g))
    expected = expected_states(bundle, rows)
    novelty = bundle.novelty_diagnostics(rows[np.argmin(np.abs(observation.shifts))])
    return Prediction(
        technique=kind.technique,
        element=xanes.element,
        edge=xanes.edge,
        quality=singles.xanes.quality.merge(singles.pdf.quality).suspect(*_disagreements(singles)),
        descriptors=_descriptors(bundle, observation, rows, expected, singles),
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
            **_single_values(singles),
            "joint_forest_oxidation_state": float(np.dot(observation.weights(), expected)),
            **{f"joint_{name}": value for name, value in novelty.items()},
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
    """Predict from both measurements of a sample, or from the one that can be used.

    The technique of the prediction is that of the models that answered; if that is not the modality, a note
    of its quality says why. A MissingDataError is raised if neither measurement can be answered.
    """
    kind = Modality(modality)
    missing = list(_obstacles(xanes, distribution, kind, element))
    if not missing and xanes is not None and distribution is not None:
        try:
            return predict_joint(xanes, distribution, store, kind)
        except XpdmlError as error:
            missing.append(error.reason)
    reasons = [f"{kind}: {'; '.join(missing)}"]
    for record in (xanes, distribution):
        try:
            single = _predict_single(record, store, kind, element)
        except XpdmlError as error:
            reasons.append(str(error))
            continue
        if single is not None:
            note = _joined(f"joint prediction degraded to {single.technique}", missing)
            return single.with_quality(single.quality.note(note))
    raise MissingDataError(f"{element}: nothing can be answered: {'; '.join(reasons)}")


def expected_states(bundle: Bundle, rows: FloatArray) -> FloatArray:
    """Return the valence that the joint forest predicts on each shifted axis [e], (s,), for rows (s, 164)."""
    classes = np.asarray(bundle.targets[Descriptor.OXIDATION_STATE]["classes"], dtype=float)
    shares = bundle.forests[Descriptor.OXIDATION_STATE].predict(rows)
    return np.asarray(np.einsum("sk,k->s", shares, classes) / shares.sum(axis=1))


def _descriptors(
    bundle: Bundle,
    observation: XanesObservation,
    rows: FloatArray,
    expected: FloatArray,
    singles: _Singles,
) -> dict[Descriptor, Estimate]:
    """Return the joint answers, and for other targets those of the spectrum alone."""
    targets, weights = bundle.targets, observation.weights()

    def mean_shares(target: Descriptor) -> FloatArray:
        return np.asarray(np.einsum("s,sk->k", weights, bundle.forests[target].predict(rows)))

    number, geometry, length = (
        Descriptor.COORDINATION_NUMBER,
        Descriptor.GEOMETRY,
        Descriptor.BOND_LENGTH,
    )
    found = {name: each for name, each in singles.xanes.descriptors.items() if name not in targets}
    found[Descriptor.OXIDATION_STATE] = oxidation_state(bundle, observation, expected)
    found[number] = mean_of_classes(targets[number], mean_shares(number))
    if geometry in targets:
        found[geometry] = likeliest_polyhedron(targets[geometry], mean_shares(geometry))
    by_xanes, by_pdf = (each.descriptors[length] for each in (singles.xanes, singles.pdf))
    weight = float(targets[length]["weight"])
    value = weight * by_xanes.value + (1.0 - weight) * by_pdf.value
    half_width = targets[length]["interval_factor"] * (
        weight * 0.5 * (by_xanes.high - by_xanes.low) + (1.0 - weight) * 0.5 * (by_pdf.high - by_pdf.low)
    )
    found[length] = Estimate(
        value=value, low=value - half_width, high=value + half_width, unit=targets[length]["unit"]
    )
    return found


def _disagreements(singles: _Singles) -> Iterator[Reason]:
    """Yield in which answers the two measurements contradict each other."""
    name = Descriptor.OXIDATION_STATE
    states = [each.descriptors[name].value for each in (singles.xanes, singles.pdf)]
    if abs(states[0] - states[1]) > DISAGREEMENT:
        yield Reason(
            f"spectrum and PDF disagree: {name.label} {states[0]:.2f} by the one, {states[1]:.2f} by the "
            "other; another sample, or a mixture?",
            ReasonCode.ANSWERS_DISAGREE,
        )
    name = Descriptor.BOND_LENGTH
    first, second = (each.descriptors[name] for each in (singles.xanes, singles.pdf))
    if not first.low <= second.value <= first.high and not second.low <= first.value <= second.high:
        yield Reason(
            f"spectrum and PDF disagree: {name.label} {first.value:.3f} angstrom by the one, "
            f"{second.value:.3f} by the other, beyond both intervals",
            ReasonCode.ANSWERS_DISAGREE,
        )


def _single_values(singles: _Singles) -> dict[str, float]:
    return {
        f"{part}_{name}": single.descriptors[name].value
        for part, single in (("xanes", singles.xanes), ("pdf", singles.pdf))
        for name in Descriptor.main()
    }


def _obstacles(
    xanes: Xanes | None, distribution: PairDistribution | None, kind: Modality, element: str
) -> Iterator[Reason]:
    """Yield why two measurements cannot be combined."""
    curve = "PDF" if kind is Modality.XANES_PDF else "differential PDF"
    if xanes is None:
        yield Reason("no spectrum was measured", ReasonCode.MISSING_DATA)
    elif xanes.quality.verdict is Verdict.FAILED:
        yield _joined("the spectrum failed", xanes.quality.reasons)
    elif xanes.element != element:
        yield Reason(f"the spectrum is of {xanes.element}, not of {element}", ReasonCode.ELEMENT_CONTRADICTED)
    if distribution is None:
        yield Reason(f"no {curve} was measured", ReasonCode.MISSING_DATA)
    elif distribution.quality.verdict is Verdict.FAILED:
        yield _joined(f"the {curve} failed", distribution.quality.reasons)


def _joined(what: str, reasons: Sequence[Reason]) -> Reason:
    """Join reasons to one, with the code of the first."""
    code = reasons[0].code if reasons else ReasonCode.UNSPECIFIED
    return Reason(f"{what}: {'; '.join(reasons)}", code)


def _predict_single(
    record: Xanes | PairDistribution | None, store: BundleStore, kind: Modality, element: str
) -> Prediction | None:
    """Predict from one measurement; None if it is missing, failed, or of another element."""
    if record is None or record.quality.verdict is Verdict.FAILED:
        return None
    if isinstance(record, Xanes):
        return predict_xanes(record, store) if record.element == element else None
    return replace(predict_pdf(record, store, kind.curve, element=element), pdf=record)


def _stacked_store(bundle: Bundle, store: BundleStore, kind: Modality) -> BundleStore:
    """Return a store in which the single bundles are those that the joint one was trained on."""
    stacks = bundle.manifest[STACKS]
    answering = {
        "xanes": store.find(bundle.element, bundle.manifest["edge"], Modality.XANES),
        "pdf": store.find(bundle.element, kind.curve.edge, kind.curve),
    }
    if all(answering[part].sha256 == entry["sha256"] for part, entry in stacks.items()):
        return store
    singles: list[Bundle] = []
    for entry in stacks.values():
        single = store.load(f"{entry['name']}-{entry['version']}")
        if single.sha256 != entry["sha256"]:
            raise BundleError(
                f"{bundle.name} stands on {single.name} with SHA-256 {entry['sha256'][:12]}..., found "
                f"{single.sha256[:12]}...: train the joint bundle again"
            )
        singles.append(single)
    pins = {entry["name"]: int(entry["version"]) for entry in stacks.values()}
    return BundleStore(store.folder, singles, pins)
