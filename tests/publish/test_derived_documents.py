"""A prediction becomes a valid Bluesky run that says everything, and nothing that is not a plain value."""

import json
import math
from dataclasses import replace

import event_model
import numpy as np
import pytest

from bluesky_xpdml.publish import derived_run, run_uid, summary
from bluesky_xpdml.records import (
    DetectionMode,
    EnergyAxis,
    Estimate,
    ModelReference,
    Origin,
    PairDistribution,
    Prediction,
    Quality,
    Sample,
    Xanes,
)
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

ENERGY = np.linspace(7000.0, 7300.0, 50)
SPECTRUM = Xanes(
    energy=ENERGY,
    mu=ENERGY / 7000,
    norm=ENERGY / 7100,
    flat=ENERGY / 7200,
    pre_edge=0 * ENERGY,
    post_edge=1 + 0 * ENERGY,
    e0=7112.0,
    edge_step=1.0,
    element="Fe",
    edge="K",
    mode=DetectionMode.TRANSMISSION,
    axis=EnergyAxis(),
    settings={},
)
PREDICTION = Prediction(
    technique=Technique.XANES,
    element="Fe",
    edge="K",
    quality=Quality().suspect(Reason("axis not calibrated", ReasonCode.AXIS_UNCALIBRATED)),
    descriptors={
        Descriptor.OXIDATION_STATE: Estimate(
            value=np.float64(2.67),
            low=2.2,
            high=3.1,
            unit="e",
            probabilities={"2": np.float32(0.25), "3": 0.75},
        ),
        Descriptor.BOND_LENGTH: Estimate(value=2.01, low=1.9, high=2.1, unit="angstrom"),
    },
    models=(ModelReference(name="Fe-xanes", version=1, sha256="ab"),),
    sample=Sample(name="LFP-3", uid="s-1"),
    raw_uids=("raw-1",),
    source="12",
    completeness=0.5,
    settings={
        "profile": "generic",
        "reduction": {"pre_edge": (-150.0, np.float64(-30.0)), "mode": DetectionMode.MU},
    },
    diagnostics={"edge_position": np.float64(12.5), "unknown": float("nan")},
    xanes=SPECTRUM,
)
R, Q = np.linspace(0.0, 30.0, 31), np.linspace(1.0, 20.0, 20)
DISTRIBUTION = PairDistribution(r=R, g=np.sin(R), q=Q, intensity=Q, f=np.cos(Q))
SCATTERED = replace(PREDICTION, technique=Technique.PDF, edge="", xanes=None, pdf=DISTRIBUTION)
FAILED = Prediction(
    technique=Technique.XANES,
    element="",
    edge="",
    quality=Quality().failed(Reason("no element", ReasonCode.ELEMENT_MISSING)),
    raw_uids=("raw-2",),
)


@pytest.mark.parametrize("prediction", [PREDICTION, FAILED, SCATTERED, replace(PREDICTION, descriptors={})])
def test_documents_are_valid_and_orderly(prediction):
    documents = derived_run(prediction)
    router = event_model.SingleRunDocumentRouter()
    for name, document in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        assert json.loads(json.dumps(document, allow_nan=name == "event")) == document
        router(name, document)
    assert (documents[0][0], documents[-1][0]) == ("start", "stop")


def test_the_start_document_says_what_planners_search_for():
    (_, start), *_ = derived_run(PREDICTION)
    assert start["purpose"] == "xpdml"
    assert (start["raw_uid"], start["raw_uids"]) == ("raw-1", ["raw-1"])
    assert start["descriptors"]["oxidation_state"] == {
        "value": 2.67,
        "low": 2.2,
        "high": 3.1,
        "unit": "e",
        "probabilities": {"2": 0.25, "3": 0.75},
    }
    assert "probabilities" not in start["descriptors"]["bond_length"]
    assert start["sample"] == {"name": "LFP-3", "uid": "s-1", "composition": ""}
    assert start["models"] == [{"name": "Fe-xanes", "version": 1, "sha256": "ab"}]
    assert start["quality"] == {
        "verdict": "suspect",
        "reasons": ["axis not calibrated"],
        "codes": ["axis-uncalibrated"],
    }
    assert start["analysis"]["profile"] == "generic"
    assert start["analysis"]["settings"]["reduction"] == {"pre_edge": [-150.0, -30.0], "mode": "mu"}
    assert start["diagnostics"] == {"edge_position": 12.5}
    assert start["completeness"] == 0.5


def test_streams_hold_floats_only():
    documents = derived_run(PREDICTION)
    spectrum, numbers = (document["data"] for name, document in documents if name == "event")
    assert list(spectrum) == ["energy", "mu", "mu_norm", "mu_flat"]
    assert spectrum["mu_flat"] == (ENERGY / 7200).tolist()
    assert numbers["oxidation_state_probability_3"] == 0.75
    assert numbers["bond_length_high"] == 2.1
    assert {type(value) for value in numbers.values()} == {float}


def test_a_pair_distribution_is_a_stream_of_its_own():
    documents = derived_run(SCATTERED)
    curves, _ = (document["data"] for name, document in documents if name == "event")
    assert {name: len(values) for name, values in curves.items()} == {
        "q": 20,
        "i_q": 20,
        "f_q": 20,
        "r": 31,
        "g_r": 31,
    }
    assert curves["g_r"] == np.sin(R).tolist()
    from_file = replace(SCATTERED, pdf=PairDistribution(r=R, g=R))
    assert list(derived_run(from_file)[2][1]["data"]) == ["r", "g_r"]


def test_a_failure_has_no_streams_and_says_why():
    documents = dict(derived_run(FAILED))
    assert list(documents) == ["start", "stop"]
    assert documents["start"]["quality"]["codes"] == ["element-missing"]
    assert documents["start"]["descriptors"] == {}
    assert (documents["stop"]["exit_status"], documents["stop"]["reason"]) == ("fail", "no element")


def test_a_number_that_is_not_finite_is_absent_with_a_reason():
    lost = replace(PREDICTION.descriptors[Descriptor.BOND_LENGTH], value=math.inf)
    said = summary(replace(PREDICTION, descriptors={Descriptor.BOND_LENGTH: lost}))
    assert said["descriptors"] == {}
    assert said["quality"]["codes"][-1] == "not-finite"


def test_the_uid_follows_from_the_question_and_the_models():
    assert run_uid(PREDICTION) == derived_run(PREDICTION)[0][1]["uid"]
    again = derived_run(PREDICTION, clock=lambda: 0.0)
    assert [d["uid"] for _, d in again] == [d["uid"] for _, d in derived_run(PREDICTION, clock=lambda: 9.0)]
    others = [
        replace(PREDICTION, raw_uids=("raw-2",)),
        replace(PREDICTION, element="Mn"),
        replace(PREDICTION, models=(ModelReference(name="Fe-xanes", version=2, sha256="cd"),)),
        replace(PREDICTION, settings={}),
        replace(PREDICTION, quality=Quality().failed(Reason("queue full", ReasonCode.QUEUE_FULL))),
        replace(PREDICTION, raw_uids=()),
        replace(PREDICTION, raw_uids=(), source="other"),
        replace(PREDICTION, raw_uids=(), xanes=replace(SPECTRUM, mu=ENERGY)),
        replace(SCATTERED, raw_uids=()),
        replace(SCATTERED, raw_uids=(), pdf=replace(DISTRIBUTION, g=R)),
    ]
    uids = [run_uid(prediction) for prediction in others]
    assert len({*uids, run_uid(PREDICTION)}) == len(others) + 1


def test_keys_that_documents_forbid_are_rewritten():
    diagnostics = {"a.b/c": 1.0}
    assert summary(replace(PREDICTION, diagnostics=diagnostics))["diagnostics"] == {"a_b_c": 1.0}


def test_the_summary_is_plain_json():
    said = summary(PREDICTION)
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert not {"uid", "time"} & set(said)


def test_the_start_document_tells_where_the_prediction_comes_from_and_its_uid_does_not_count_it() -> None:
    trial = {"campaign": "front", "id": 3, "parameters": {"temperature": np.float64(512.5)}}
    origin = Origin(time=10.0, proposal="312345", trial=trial, keys={"cell.channel": "4"})
    said = summary(replace(PREDICTION, origin=origin))["origin"]
    assert said["proposal"] == "312345"
    assert said["trial"] == {"campaign": "front", "id": 3, "parameters": {"temperature": 512.5}}
    assert said["keys"] == {"cell_channel": "4"}
    assert run_uid(replace(PREDICTION, origin=origin)) == run_uid(PREDICTION)
