"""`xpdml advise`: the same advice for a file and for its derived run in Tiled."""

import json
from dataclasses import replace

from bluesky_xpdml.planning import advise
from bluesky_xpdml.publish import TiledPublisher, derived_run
from bluesky_xpdml.records import Estimate, Prediction, Quality

ANSWER = Prediction(
    technique="pdf",
    element="Cu",
    edge="",
    quality=Quality(),
    descriptors={
        "oxidation_state": Estimate(value=2.2, low=1.9, high=2.8, unit="e"),
        "coordination_number": Estimate(value=5.8, low=5.0, high=6.0, unit="1"),
    },
    raw_uids=("advised-raw",),
)


def test_a_file_is_advised_on(xpdml, iron_file):
    done = xpdml("advise", iron_file, "--element", "Fe", "--json")
    assert done.status == 0, done.err
    (found,) = done.objects
    assert (found["element"], found["technique"]) == ("Fe", "xanes")
    assert {gain["modality"] for gain in found["gains"]} == {"pdf", "dpdf"}
    assert all(-1.0 <= gain["gain"] <= 1.0 for gain in found["gains"])


def test_a_run_in_tiled_is_advised_on(xpdml, tiled_server):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="advised")
    try:
        publisher.publish(derived_run(ANSWER))
        publisher.publish(
            derived_run(
                replace(ANSWER, descriptors={}, element="Zn", quality=Quality().failed("no model for Zn"))
            )
        )
    finally:
        publisher.close()
    done = xpdml("advise", "--tiled", tiled_server.uri, "--path", "advised", "--raw", "advised-raw", "--json")
    assert done.objects == [json.loads(json.dumps(advise(ANSWER).as_json()))]
    # The failed metal is named with its reason, and counts.
    assert done.status == 1
    assert "no model for Zn" in done.err
    table = xpdml("advise", "--tiled", tiled_server.uri, "--path", "advised", "--raw", "advised-raw")
    assert "Cu, pdf measured" in table.out
    assert "xanes" in table.out


def test_a_run_without_predictions_is_an_error(xpdml, tiled_server):
    TiledPublisher.from_uri(tiled_server.uri, path="advised").close()
    done = xpdml("advise", "--tiled", tiled_server.uri, "--path", "advised", "--raw", "another")
    assert done.status == 1
    assert "expected predictions of run another" in done.err


def test_neither_file_nor_run_is_wrong_usage(xpdml, iron_file):
    for arguments in ((), (iron_file, "--tiled", "http://localhost:1", "--raw", "x"), ("--raw", "x")):
        done = xpdml("advise", *arguments)
        assert done.status == 2
        assert "either a file, or --tiled and --raw" in done.err
