"""Predictions from G(r): what is doubtful about a curve is said with a code."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import BundleError, FeatureError, ModelNotFoundError
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import PairDistribution, Prediction, Verdict
from bluesky_xpdml.simulation.pair_distribution import pair_distribution
from bluesky_xpdml.simulation.structure import Structure
from bluesky_xpdml.vocabulary import Descriptor, Modality, ReasonCode, Technique

STORE = BundleStore.default()
ROCK_SALT = Structure(
    lattice=2.165 * (np.ones((3, 3)) - np.eye(3)),
    fractional=np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
    species=("Fe", "O"),
)
"""FeO: six neighbours at 2.165 angstrom."""


def wustite(settings: Mapping[str, object] | None = None) -> PairDistribution:
    r, g = pair_distribution(ROCK_SALT, q_max=25.0, u_iso=0.007, r_max=12.0)
    return PairDistribution(
        r=r,
        g=g,
        composition={"Fe": 0.5, "O": 0.5},
        settings={"q_max": 25.0} if settings is None else settings,
    )


def predict(distribution: PairDistribution, element: str = "Fe") -> Prediction:
    return predict_pdf(distribution, STORE, Modality.PDF, element=element)


def test_six_neighbours_of_iron_ii_are_found() -> None:
    found = predict(wustite())
    assert found.technique is Technique.PDF
    assert found.edge == ""
    assert found.descriptors[Descriptor.COORDINATION_NUMBER].value == pytest.approx(6.0, abs=0.5)
    length = found.descriptors[Descriptor.BOND_LENGTH]
    assert length.low <= 2.165 <= length.high
    assert length.unit == Descriptor.BOND_LENGTH.unit
    assert set(Descriptor.main()) <= set(found.descriptors)


def test_the_scale_of_the_curve_does_not_matter() -> None:
    curve = wustite()
    scaled = predict(replace(curve, g=3.7 * curve.g))
    for name, estimate in predict(curve).descriptors.items():
        assert scaled.descriptors[name].value == pytest.approx(estimate.value, abs=1e-9)


def test_an_unknown_q_max_is_noted_and_one_out_of_range_is_suspect() -> None:
    low, high = STORE.find("Fe", "", Modality.PDF).manifest["input"]["q_max"]
    inside = predict(wustite({"q_max": 0.5 * (low + high)})).quality
    unknown = predict(wustite({})).quality
    outside = predict(wustite({"q_max": 2.0 * high})).quality
    assert not inside.has(ReasonCode.Q_RANGE)
    assert unknown.has(ReasonCode.Q_RANGE)
    assert unknown.verdict is inside.verdict
    assert outside.has(ReasonCode.Q_RANGE)
    assert outside.verdict is Verdict.SUSPECT


def test_a_composition_without_the_element_contradicts_it() -> None:
    quality = predict(wustite(), element="Mn").quality
    assert quality.verdict is Verdict.SUSPECT
    assert quality.has(ReasonCode.ELEMENT_CONTRADICTED)
    assert not predict(replace(wustite(), composition={}), element="Mn").quality.has(
        ReasonCode.ELEMENT_CONTRADICTED
    )


def test_what_cannot_be_answered_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="no pdf model for Zn"):
        predict(wustite(), element="Zn")
    curve = wustite()
    short = curve.r < 8.0
    with pytest.raises(FeatureError):
        predict(replace(curve, r=curve.r[short], g=curve.g[short]))
    bundle = STORE.find("Fe", "", Modality.PDF)
    other = replace(
        bundle, manifest={**bundle.manifest, "input": {**bundle.manifest["input"], "scale": "S(Q)"}}
    )
    with pytest.raises(BundleError, match=r"expects scale S\(Q\), this version computes G\(r\)"):
        predict_pdf(curve, BundleStore(STORE.folder, [other]), Modality.PDF, element="Fe")
