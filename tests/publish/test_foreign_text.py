"""Texts of strangers in documents: whatever they hold, the prediction is published and found."""

import json

import pytest

from bluesky_xpdml.publish import LiveRun, Query, TiledPublisher, derived_run
from bluesky_xpdml.publish.documents import plain
from bluesky_xpdml.records import Origin, Quality, Sample
from bluesky_xpdml.vocabulary import Reason, ReasonCode

TEXTS = {
    "lone surrogate": "LFP \udc80",
    "NUL": "LFP\x00-3",
    "markup": "LFP [/batch 2] [bold]<script>alert(1)</script>",
    "escape codes": "\x1b[31mLFP\x1b]0;title\x07",
    "right to left": "\u202eLFP",
    "quotes": "LFP\"'\\; DROP TABLE nodes; --",
    "percent": "%s %d {0} %",
    "empty": "",
    "long": "x" * 100_000,
}


def nested(depth):
    value = "bottom"
    for _ in range(depth):
        value = {"next": [value]}
    return value


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_of_a_stranger_does_not_stop_a_publication(container, catalog, answer, text):
    origin = Origin(
        proposal=text, trial={"campaign": text, "id": text, "parameters": {text: text}}, keys={text: text}
    )
    quality = Quality().failed(Reason(text or "empty", ReasonCode.INVALID_DOCUMENT))
    publisher = TiledPublisher(container)
    for raw_uid, judged in (("good", Quality()), ("failed", quality)):
        prediction = answer(raw_uid, sample=Sample(name=text), origin=origin, source=text, quality=judged)
        publisher.publish(derived_run(prediction))
    live = LiveRun()
    publisher.extend([*live.update(answer("live", sample=Sample(name=text), origin=origin)), *live.finish()])
    found = catalog.find(Query())
    assert sorted(each.raw_uids[0] for each in found) == ["failed", "good"]
    shown = text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    assert {each.sample.name for each in found} == {shown}
    assert publisher.n_written == 2


@pytest.mark.parametrize(
    "value",
    [2**70, -(2**70), 10**400, float("inf"), {1: 2, None: "x"}, nested(400), b"\xff", object(), {3}],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_is_no_json_does_not_stop_a_publication(container, answer, value):
    prediction = answer("raw", origin=Origin(trial={"campaign": "c", "id": 1, "parameters": {"x": value}}))
    TiledPublisher(container).publish(derived_run(prediction))
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)
    (run,) = container.values()
    assert run.metadata["start"]["origin"]["trial"]["campaign"] == "c"


def test_a_raw_uid_that_is_no_unicode_is_found_by_its_escaped_form(container, catalog, answer):
    TiledPublisher(container).publish(derived_run(answer("raw-\udc80")))
    assert len(catalog.of_run("raw-\\udc80")) == 1
