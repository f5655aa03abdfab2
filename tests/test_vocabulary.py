"""The fixed words: each is text in documents, and a member in code."""

import copy
import json
import pickle

import pytest

from bluesky_xpdml.errors import ModelNotFoundError, ReductionError, XpdmlError
from bluesky_xpdml.records import Quality, Verdict
from bluesky_xpdml.vocabulary import Descriptor, Modality, Reason, ReasonCode, Technique


@pytest.mark.parametrize("name", Descriptor)
def test_every_descriptor_has_a_label_a_unit_and_a_heading(name: Descriptor) -> None:
    assert name.label
    assert name.unit in {"e", "1", "angstrom"}
    assert name.heading.startswith(name.label)
    assert (name.symbol == "Å") == (name.unit == "angstrom")
    assert name.heading == (f"{name.label} [{name.symbol}]" if name.symbol else name.label)


def test_members_are_plain_text_in_json() -> None:
    content = {Descriptor.BOND_LENGTH: [Technique.XANES_PDF, Modality.DPDF, ReasonCode.NOVEL]}
    assert json.loads(json.dumps(content)) == {"bond_length": ["xanes+pdf", "dpdf", "novel"]}
    assert content["bond_length"] is content[Descriptor.BOND_LENGTH]  # type: ignore[index]


@pytest.mark.parametrize("modality", Modality)
def test_modalities_name_their_technique_and_curve(modality: Modality) -> None:
    joint = modality in Modality.joint()
    assert (len(modality.technique.parts) == 2) == joint
    assert modality.curve in {*Modality.curves(), Modality.XANES}
    assert modality.technique.parts[-1] is modality.curve.technique
    assert modality.edge == ("" if modality in {Modality.PDF, Modality.DPDF} else "K")


def test_a_reason_is_its_text_and_keeps_its_code() -> None:
    reason = Reason("no foil", ReasonCode.AXIS_UNCALIBRATED)
    for same in (pickle.loads(pickle.dumps(reason)), copy.deepcopy(reason)):  # noqa: S301
        assert same == "no foil" == reason
        assert same.code is ReasonCode.AXIS_UNCALIBRATED
    assert Reason("of an older run").code is ReasonCode.UNSPECIFIED
    assert len({code.value for code in ReasonCode}) == len(ReasonCode)


def test_quality_is_searched_by_code() -> None:
    noise, novel = Reason("noisy", ReasonCode.NOISE), Reason("unlike the training", ReasonCode.NOVEL)
    quality = Quality().note(noise).suspect(novel).suspect(novel)
    assert quality.verdict is Verdict.SUSPECT
    assert quality.reasons == (noise, novel), "a reason stands once"
    assert quality.of(ReasonCode.NOVEL, ReasonCode.GLITCH) == (novel,)
    assert quality.has(ReasonCode.NOISE)
    assert not quality.has(ReasonCode.GLITCH)
    assert quality.merge(Quality().failed()).verdict is Verdict.FAILED
    assert Quality().suspect() == Quality()


def test_errors_carry_the_code_of_their_class_or_their_own() -> None:
    assert ModelNotFoundError("no model").reason.code is ReasonCode.MODEL_MISSING
    assert ReductionError("too short", ReasonCode.EDGE_NOT_COVERED).code is ReasonCode.EDGE_NOT_COVERED
    passed_on = ReductionError(Reason("too short", ReasonCode.NOISE))
    assert (passed_on.reason, passed_on.reason.code) == ("too short", ReasonCode.NOISE)
    assert XpdmlError().reason.code is ReasonCode.INTERNAL_ERROR
