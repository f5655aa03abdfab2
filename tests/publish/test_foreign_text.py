"""Texts of strangers in documents: whatever they hold, the prediction is published and found."""

import json

import numpy as np

from bluesky_xpdml.publish import LiveRun, Query, TiledPublisher, derived_run, find_predictions
from bluesky_xpdml.publish.documents import LONGEST, plain
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
ENDLESS = "y" * 50_000_000


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


def test_50_megabytes_and_900_levels_do_not_stop_a_publication(container, catalog, answer):
    publisher = TiledPublisher(container)
    origin = Origin(
        proposal=ENDLESS, trial={"campaign": "c", "id": 1, "parameters": {"x": nested(450), ENDLESS: ENDLESS}}
    )
    sample = Sample(name=ENDLESS)
    publisher.publish(derived_run(answer("endless", sample=sample, origin=origin, source=ENDLESS)))
    (found,) = [each for each in catalog.find(Query()) if each.raw_uids == ("endless",)]
    assert found.sample.name == f"{ENDLESS[:LONGEST]} ..."


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
    np.array(5),
    np.eye(2),
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
