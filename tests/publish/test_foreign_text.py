"""Texts of strangers in documents: whatever they hold, the prediction is published and found."""

import json

from bluesky_xpdml.publish import LiveRun, Query, TiledPublisher, derived_run, find_predictions
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


def strange_answer(answer, raw_uid, text, **more):
    origin = Origin(
        proposal=text, trial={"campaign": text, "id": text, "parameters": {text: text}}, keys={text: text}
    )
    return answer(raw_uid, sample=Sample(name=text), origin=origin, source=text, **more)


def test_a_text_of_a_stranger_does_not_stop_a_publication(container, catalog, answer):
    publisher = TiledPublisher(container)
    for name, text in TEXTS.items():
        quality = Quality().failed(Reason(text or "empty", ReasonCode.INVALID_DOCUMENT))
        publisher.publish(derived_run(strange_answer(answer, name, text, quality=quality, descriptors={})))
    assert publisher.n_written == len(TEXTS)
    names = {each.raw_uids[0]: each.sample.name for each in catalog.find(Query())}
    escaped = {"lone surrogate": "LFP \\udc80", "NUL": "LFP\\x00-3"}
    assert names == TEXTS | escaped


def test_partial_and_final_answers_of_a_strange_sample_are_published(container, answer):
    publisher, live = TiledPublisher(container), LiveRun()
    prediction = strange_answer(answer, "raw-\udc80", TEXTS["lone surrogate"])
    publisher.extend([*live.update(prediction), *live.finish()])
    publisher.publish(derived_run(prediction))
    assert len(find_predictions(container, "raw-\\udc80")) == 2


VALUES = (
    2**70,
    -(2**70),
    10**400,
    float("inf"),
    {1: 2, None: "x", "": 0},
    nested(400),
    b"\xff",
    object(),
    {3},
)


def test_a_value_that_is_no_json_does_not_stop_a_publication(container, answer):
    publisher = TiledPublisher(container)
    for number, value in enumerate(VALUES):
        origin = Origin(trial={"campaign": "c", "id": number, "parameters": {"x": value}})
        publisher.publish(derived_run(answer(f"raw-{number}", origin=origin, descriptors={})))
        assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)
    assert len(container) == len(VALUES)
