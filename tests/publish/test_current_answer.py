"""Which of several answers to one question is current: what they are decides, not the order of arrival."""

import itertools
import random
from dataclasses import replace

import pytest

import bluesky_xpdml.publish.documents as writing
from bluesky_xpdml.planning.answers import AnswerCriteria, select_answer
from bluesky_xpdml.publish import Cursor, Query, TiledPublisher, derived_run, published, run_uid
from bluesky_xpdml.publish.published import current
from bluesky_xpdml.records import ModelReference, Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode

GOOD, SUSPECT = Quality(), Quality().suspect(Reason("no foil", ReasonCode.AXIS_UNCALIBRATED))
FAILED = Quality().failed(Reason("no edge", ReasonCode.EDGE_NOT_COVERED))
FOIL, GIVEN, STORED, NONE = ("reference", 0.3), ("given", 0.3), ("stored", 0.5), ("none", 2.0)


@pytest.fixture
def read_back(answer):
    """Return a function that makes an answer to one question as a catalog returns it."""

    def make(at, *, axis=FOIL, quality=GOOD, revision=2, bundle=1, state=2.5, **more):
        settings = {"energy_axis": {"source": axis[0], "uncertainty": axis[1], "offset": at}}
        prediction = answer("raw", state, bundle=bundle, quality=quality, settings=settings, **more)
        start = derived_run(prediction, clock=lambda: at)[0][1]
        start["analysis"]["revision"] = revision
        return published(start | {"uid": f"{start['uid']}-{revision}"})

    return make


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"quality": FAILED, "revision": 9, "bundle": 9}),
        ({"axis": NONE, "revision": 3}, {"axis": FOIL}),
        ({"axis": STORED, "quality": SUSPECT}, {"axis": NONE, "bundle": 2}),
        ({"axis": GIVEN}, {"axis": STORED}),
        ({"axis": ("stored", 0.4)}, {"axis": ("stored", 0.9)}),
        ({}, {"completeness": 0.5, "bundle": 2}),
        ({"bundle": 2}, {"bundle": 1}),
    ],
    ids=["answer", "revision", "stored", "given", "uncertainty", "completeness", "bundle"],
)
def test_what_an_answer_is_decides_before_the_clock(read_back, better, worse):
    for first, second in ((1.0, 2.0), (2.0, 1.0)):
        expected = read_back(first, **better)
        other = read_back(second, **worse)
        assert current([expected, other]) == current([other, expected]) == [expected]


def test_between_equal_answers_the_newest_is_current(read_back):
    older, newer = read_back(1.0, axis=("reference", 0.301)), read_back(2.0, axis=("given", 0.299))
    assert current([newer, older]) == [newer]


def test_a_replay_without_the_stored_axis_does_not_supersede_the_live_answer(container, catalog, answer, put):
    live = answer("raw", 2.71, settings={"energy_axis": {"source": "stored", "uncertainty": 0.4}})
    replay = answer(
        "raw", 3.10, quality=SUSPECT, settings={"energy_axis": {"source": "none", "uncertainty": 2.0}}
    )
    put(container, live, 10.0)
    cursor = catalog.end()
    put(container, replay, 20.0)
    (found,) = catalog.of_run("raw")
    assert found.descriptors["oxidation_state"].value == 2.71
    assert len(catalog.history("raw")) == 2
    assert catalog.since(cursor)[0] == []
    assert [each.time for each in catalog.since(cursor, superseded=True)[0]] == [20.0]
    assert catalog.find(Query(descriptors={"oxidation_state": (3.0, 3.2)})) == []
    chosen = select_answer(catalog.history("raw"), AnswerCriteria(technique="xanes", timeout=1.0))
    assert chosen == found


def test_a_corrected_analysis_is_published_beside_the_old_one(container, catalog, answer, monkeypatch):
    publisher = TiledPublisher(container)
    old = derived_run(answer("raw", 3.1), clock=lambda: 1.0)
    publisher.publish(old)
    monkeypatch.setattr(writing, "ANALYSIS_REVISION", writing.ANALYSIS_REVISION + 1)
    corrected = derived_run(answer("raw", 2.7), clock=lambda: 0.5)
    publisher.publish(corrected)
    assert (publisher.n_written, publisher.n_already_there) == (2, 0)
    (found,) = catalog.of_run("raw")
    assert found.descriptors["oxidation_state"].value == 2.7
    assert found.revision == writing.ANALYSIS_REVISION
    assert len(catalog.history("raw")) == 2


def test_a_run_without_a_revision_has_the_first_one(read_back):
    start = dict(read_back(1.0).start)
    start["analysis"] = {key: value for key, value in start["analysis"].items() if key != "revision"}
    assert published(start).revision == 1


def test_the_uid_follows_from_the_revision_too(answer, monkeypatch):
    before = run_uid(answer("raw"))
    monkeypatch.setattr(writing, "ANALYSIS_REVISION", 99)
    assert run_uid(answer("raw")) != before


def random_answers(read_back, chance, n):
    return [
        read_back(
            chance.choice([1.0, 2.0, 3.0]),
            axis=chance.choice([FOIL, GIVEN, STORED, NONE, ("stored", 0.9), ("stored", 0.502)]),
            quality=chance.choice([GOOD, SUSPECT, FAILED]),
            revision=chance.choice([1, 2]),
            bundle=chance.choice([1, 2]),
            completeness=chance.choice([0.5, 1.0]),
        )
        for _ in range(n)
    ]


def test_the_current_answer_does_not_depend_on_the_order(read_back):
    chance = random.Random(3)  # noqa: S311 - reproducible, not secret
    for _ in range(200):
        answers = random_answers(read_back, chance, 4)
        assert (
            len({tuple(each.uid for each in current(order)) for order in itertools.permutations(answers)})
            == 1
        )


def test_every_reader_ends_at_the_same_answer_in_any_order_of_arrival(catalog, container, answer, put):
    """Readers that follow along and one that asks in the end agree, whatever comes when."""
    chance = random.Random(4)  # noqa: S311 - reproducible, not secret
    axes = [{"source": source, "uncertainty": value} for source, value in (FOIL, STORED, NONE)]
    answers = [
        replace(
            answer("raw", float(n), bundle=1 + n % 2, quality=chance.choice([GOOD, SUSPECT, FAILED])),
            settings={"energy_axis": chance.choice(axes), "n": n},
            models=(ModelReference(name="Fe-xanes", version=1 + n % 2, sha256="a"),),
        )
        for n in range(6)
    ]
    ends = set()
    for number in range(4):
        order = chance.sample(answers, len(answers))
        raw_uid, cursor, last = f"raw-{number}", catalog.end(), None
        for each in order:
            own = replace(each, raw_uids=(raw_uid,))
            put(container, own, 100.0 + each.settings["n"])
            news, cursor = catalog.since(cursor)
            last = news[-1] if news else last
        (found,) = catalog.of_run(raw_uid)
        assert last == found
        assert current(catalog.history(raw_uid)) == [found]
        (again,) = catalog.since(Cursor(), Query(raw_uid=raw_uid))[0]
        assert again == found
        ends.add(found.time)
    assert len(ends) == 1
