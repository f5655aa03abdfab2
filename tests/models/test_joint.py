"""A sample that was measured both ways is answered by both, or by the measurement that can be used."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.errors import BundleError, MissingDataError
from bluesky_xpdml.models.joint import STACKS, predict_joint, predict_sample
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import PairDistribution, Quality, Verdict, Xanes
from bluesky_xpdml.reduction.xanes import reduce_xanes
from bluesky_xpdml.simulation.pair_distribution import pair_distribution
from bluesky_xpdml.simulation.structure import Structure
from bluesky_xpdml.vocabulary import Descriptor, Modality, Reason, ReasonCode, Technique

STORE = BundleStore.default()
MODALITY = Modality.XANES_PDF
FAILED = Quality().failed(Reason("the scan ends at the edge", ReasonCode.EDGE_NOT_COVERED))


@pytest.fixture(scope="module")
def xanes() -> Xanes:
    return replace(reduce_xanes(simulated_scan(seed=1)), raw_uids=("a",), source="scan")


@pytest.fixture(scope="module")
def distribution() -> PairDistribution:
    """Return the curve of a cubic LaFeO3."""
    fractional = np.array([[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    cell = Structure(
        lattice=3.93 * np.eye(3), fractional=fractional.astype(float), species=("La", "Fe", "O", "O", "O")
    )
    r, g = pair_distribution(cell, q_max=25.0, u_iso=0.007, r_max=12.0)
    return PairDistribution(r=r, g=g, settings={"q_max": 25.0}, raw_uids=("b",), source="pattern")


def test_the_joint_answer_holds_both_measurements(xanes: Xanes, distribution: PairDistribution) -> None:
    found = predict_joint(xanes, distribution, STORE, MODALITY)
    assert found.technique is Technique.XANES_PDF
    assert found.raw_uids == ("a", "b")
    assert found.source == "scan + pattern"
    assert [model.name for model in found.models] == ["Fe-xanes+pdf", "Fe-xanes", "Fe-pdf"]
    length = found.descriptors[Descriptor.BOND_LENGTH].value
    singles = [found.diagnostics[f"{part}_bond_length"] for part in ("xanes", "pdf")]
    weight = STORE.find("Fe", "K", MODALITY).targets[Descriptor.BOND_LENGTH]["weight"]
    assert length == pytest.approx(weight * singles[0] + (1.0 - weight) * singles[1], abs=1e-12)


@pytest.mark.parametrize(
    ("without", "technique", "code"),
    [
        ("xanes", Technique.PDF, ReasonCode.MISSING_DATA),
        ("pdf", Technique.XANES, ReasonCode.MISSING_DATA),
        ("failed xanes", Technique.PDF, ReasonCode.EDGE_NOT_COVERED),
        ("failed pdf", Technique.XANES, ReasonCode.EDGE_NOT_COVERED),
    ],
)
def test_one_measurement_answers_alone_and_the_note_says_why(
    xanes: Xanes, distribution: PairDistribution, without: str, technique: Technique, code: ReasonCode
) -> None:
    given: dict[str, Xanes | PairDistribution | None] = {"xanes": xanes, "pdf": distribution}
    given |= {
        "xanes": {"xanes": {"xanes": None}, "failed xanes": {"xanes": replace(xanes, quality=FAILED)}},
        "pdf": {"pdf": {"pdf": None}, "failed pdf": {"pdf": replace(distribution, quality=FAILED)}},
    }[without.rsplit(maxsplit=1)[-1]][without]
    found = predict_sample(given["xanes"], given["pdf"], STORE, MODALITY, element="Fe")  # type: ignore[arg-type]
    assert found.technique is technique
    (note,) = [reason for reason in found.quality.reasons if reason.startswith("joint prediction degraded")]
    assert note.code is code


def test_measurements_of_other_elements_are_not_joined(xanes: Xanes, distribution: PairDistribution) -> None:
    found = predict_sample(xanes, distribution, STORE, MODALITY, element="Mn")
    assert found.technique is Technique.PDF
    assert any("the spectrum is of Fe, not of Mn" in reason for reason in found.quality.reasons)
    with pytest.raises(MissingDataError, match="Mn: nothing can be answered"):
        predict_sample(xanes, None, STORE, MODALITY, element="Mn")


def test_two_measurements_of_different_samples_are_suspect(
    xanes: Xanes, distribution: PairDistribution
) -> None:
    """Without intervals, any difference of the two bond lengths is one too many."""
    length = Descriptor.BOND_LENGTH
    exact = []
    for single, key in (
        (STORE.find("Fe", "K", Modality.XANES), "half_width"),
        (STORE.find("Fe", "", Modality.PDF), "interval_factor"),
    ):
        targets = {**single.targets, length: {**single.targets[length], key: 0.0}}
        exact.append(replace(single, manifest={**single.manifest, "targets": targets}))
    quality = predict_joint(xanes, distribution, BundleStore(STORE.folder, exact), MODALITY).quality
    assert quality.verdict is Verdict.SUSPECT
    assert quality.has(ReasonCode.ANSWERS_DISAGREE)


def test_a_joint_bundle_needs_the_single_ones_it_was_trained_on(
    xanes: Xanes, distribution: PairDistribution
) -> None:
    bundle = STORE.find("Fe", "K", MODALITY)
    stacks = {part: {**entry, "sha256": "0" * 64} for part, entry in bundle.manifest[STACKS].items()}
    other = replace(bundle, manifest={**bundle.manifest, STACKS: stacks})
    with pytest.raises(BundleError, match="train the joint bundle again"):
        predict_joint(xanes, distribution, BundleStore(STORE.folder, [other]), MODALITY)
