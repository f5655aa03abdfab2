"""`xpdml reprocess`: a catalog is analysed anew, and what became of its runs is printed."""

import pytest

from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.publish import TiledPublisher


@pytest.fixture(scope="module")
def into(tiled_server):
    """Return the options of a catalog with two runs of samples, and one without an edge."""
    raw = TiledPublisher.from_uri(tiled_server.uri, path="anew-raw")
    for number, sample in enumerate(("LFP", "LCO", "empty")):
        documents = [
            (name, document | {"sample_name": sample} if name == "start" else document)
            for name, document in run_documents(f"{sample}-run", 1.7e9 + number)
        ]
        if sample == "empty":
            documents = [each for each in documents if not each[0].startswith("event")]
        raw.publish(documents)
    raw.close()
    return "--tiled", tiled_server.uri, "--raw", "anew-raw", "--into", "anew", "--workers", "1"


def test_runs_are_answered_then_skipped(into, xpdml):
    chosen = ("reprocess", *into, "--where", "sample_name=LFP", "--since", "2020-01-01")
    first, second = xpdml(*chosen, "--json"), xpdml(*chosen)
    assert (first.status, second.status) == (0, 0), first.err
    (answer,) = first.objects
    assert (answer["raw_uid"], answer["unpublished"]) == ("LFP-run", None)
    assert "skipped (done before)" in second.out


def test_failures_are_named_with_their_reason(into, xpdml):
    done = xpdml("reprocess", *into, "--all")
    assert done.status == 1
    assert "3 raw runs" in done.out
    assert "empty-run failed: " in done.err


def test_a_condition_that_cannot_be_read_is_wrong_usage(into, xpdml):
    for condition in ("sample_name", "sample=[1]"):
        done = xpdml("reprocess", *into, "--where", condition)
        assert done.status == 2
        assert condition.partition("=")[0] in done.err


def test_without_runs_the_conditions_are_repeated(into, xpdml):
    done = xpdml("reprocess", *into, "--where", "sample_name=LPF")
    assert done.status == 1
    assert 'that fulfil: sample_name="LPF"; found none' in done.err


def test_the_container_of_the_raw_runs_has_to_be_named(tiled_server, xpdml):
    done = xpdml("reprocess", "--tiled", tiled_server.uri)
    assert done.status == 1
    assert "expected tiled.raw_path" in done.err
