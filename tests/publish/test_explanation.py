"""Explanations are a stream of their own, beside a summary that says what adds up to the answer."""

import json
from dataclasses import replace

import event_model
import numpy as np
import pytest

from bluesky_xpdml.publish import TiledPublisher, derived_run, find_predictions, run_uid
from bluesky_xpdml.records import Attribution, Estimate, Explanation, Prediction, Quality, Region
from bluesky_xpdml.vocabulary import Technique

GRID = np.tile(np.arange(36.0), 2)
FEATURES = np.linspace(-0.1, 0.1, 72)
ATTRIBUTION = Attribution(
    unit="e",
    answer=2.9,
    base=2.5,
    features=FEATURES,
    others={"axis shifts": 0.1, "edge position": 0.3},
    importance=np.full(72, 1 / 72),
    permutation=np.linspace(0.0, 0.2, 72),
)
EXPLANATION = Explanation(
    grid=GRID,
    unit="eV",
    features=tuple(f"feature {number}" for number in range(72)),
    attributions={"oxidation_state": ATTRIBUTION},
    regions=(
        Region(
            name="pre-edge",
            low=0.0,
            high=8.0,
            attribution={"oxidation_state": -0.25},
            importance={"oxidation_state": 0.2},
        ),
        Region(
            name="edge",
            low=8.0,
            high=35.0,
            attribution={"oxidation_state": 0.25},
            importance={"oxidation_state": 0.8},
        ),
    ),
    edge_share=0.6,
)
PLAIN = Prediction(
    technique=Technique.XANES,
    element="Fe",
    edge="K",
    quality=Quality(),
    descriptors={"oxidation_state": Estimate(value=2.9, low=2.5, high=3.3, unit="e")},
    raw_uids=("raw-explained",),
)
EXPLAINED = replace(PLAIN, explanation=EXPLANATION)


def test_documents_are_valid_and_hold_the_stream():
    documents = derived_run(EXPLAINED)
    router = event_model.SingleRunDocumentRouter()
    for name, document in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        router(name, document)
    descriptors = [document for name, document in documents if name == "descriptor"]
    assert [each["name"] for each in descriptors] == ["predictions", "explanation"]
    keys = descriptors[1]["data_keys"]
    assert {tuple(key["shape"]) for key in keys.values()} == {(72,)}
    assert {name: key["units"] for name, key in keys.items()} == {
        "grid": "eV",
        "attribution_oxidation_state": "e",
        "importance_oxidation_state": "1",
        "permutation_oxidation_state": "1",
    }


def test_the_start_document_says_what_adds_up_to_the_answer():
    said = derived_run(EXPLAINED)[0][1]["explanation"]
    state = said["targets"]["oxidation_state"]
    assert state["regions"] == {"pre-edge": -0.25, "edge": 0.25}
    assert state["others"] == {"axis shifts": 0.1, "edge position": 0.3}
    parts = state["base"] + sum(state["regions"].values()) + sum(state["others"].values())
    assert parts == pytest.approx(state["answer"])
    assert (said["edge_share"], said["regions"]["edge"]) == (0.6, [8.0, 35.0])
    assert len(said["features"]) == 72


def test_an_unexplained_prediction_is_published_as_ever():
    documents = derived_run(PLAIN)
    assert "explanation" not in documents[0][1]
    assert [document["name"] for name, document in documents if name == "descriptor"] == ["predictions"]
    # Explained later, it is a run of its own: the server keeps the first run of a uid.
    assert run_uid(EXPLAINED) != run_uid(PLAIN)
    assert run_uid(EXPLAINED) == run_uid(replace(EXPLAINED, source="other"))


def test_an_explanation_is_read_back_from_tiled(tiled_server):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="explained/xpdml")
    try:
        publisher.publish(derived_run(EXPLAINED))
        (run,) = find_predictions(publisher.container, "raw-explained")
        stream = run["explanation"].read()
        for name, expected in (
            ("grid", GRID),
            ("attribution_oxidation_state", FEATURES),
            ("importance_oxidation_state", ATTRIBUTION.importance),
            ("permutation_oxidation_state", ATTRIBUTION.permutation),
        ):
            np.testing.assert_array_equal(stream[name].values, expected)
            assert stream[name].values.dtype == np.float64
        assert run.metadata["start"]["explanation"]["edge_share"] == 0.6
    finally:
        publisher.close()
