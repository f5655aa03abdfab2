"""A callback that was asked for explanations publishes them with the predictions; others do not."""

from dataclasses import replace
from pathlib import Path

import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback


def streams(derived):
    return [document["name"] for name, document in derived.documents if name == "descriptor"]


@pytest.mark.parametrize(("explain", "expected"), [(True, True), (False, False)])
def test_explanations_are_published_where_they_are_asked_for(
    derived, iron_scan, explainable: Path, explain: bool, expected: bool
) -> None:
    documents = iron_scan()
    store = BundleStore(explainable)
    with XpdmlCallback(CallbackPublisher(derived), store=store, explain=explain) as callback:
        for name, document in documents:
            callback(name, document)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
    start = derived.of(documents[0][1]["uid"])
    assert ("explanation" in streams(derived), "explanation" in start) == (expected, expected)
    if expected:
        said = start["explanation"]["targets"]["oxidation_state"]
        parts = said["base"] + sum(said["regions"].values()) + sum(said["others"].values())
        assert parts == pytest.approx(start["descriptors"]["oxidation_state"]["value"])


def test_bundles_that_cannot_explain_still_answer(derived, iron_scan, explainable: Path) -> None:
    documents = iron_scan()
    bundle = BundleStore(explainable).find("Fe", "K", "xanes")
    store = BundleStore(explainable, [replace(bundle, tables={})])
    with XpdmlCallback(CallbackPublisher(derived), store=store, explain=True) as callback:
        for name, document in documents:
            callback(name, document)
        assert callback.drain(timeout=60)
    start = derived.of(documents[0][1]["uid"])
    assert "oxidation_state" in start["descriptors"]
    assert "explanation" not in start
    assert any(reason.startswith("not explained: Fe-xanes") for reason in start["quality"]["reasons"])
