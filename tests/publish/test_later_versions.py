"""Runs of later versions, of other programs, and half-written ones: they are read as far as possible,
skipped otherwise and logged once, and everything else in the container is delivered."""

import copy
import queue
import random

import pytest

from bluesky_xpdml import BundleStore, analyse_scan
from bluesky_xpdml.errors import PublishError, XpdmlError
from bluesky_xpdml.factory.bench.speed import simulated_scan
from bluesky_xpdml.planning.answers import AnswerCriteria, predictions_of_trial, query_answers, select_answer
from bluesky_xpdml.publish import (
    Cursor,
    PredictionCatalog,
    Query,
    TiledPublisher,
    dataset,
    derived_run,
    find_predictions,
    frame,
    published,
)
from bluesky_xpdml.publish.curves import read_distribution, read_xanes
from bluesky_xpdml.publish.published import readable
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

WEIRD = (
    None,
    True,
    0,
    -1,
    1e300,
    2**40,
    "",
    "x",
    "xanes+raman",
    "[/b]\x1b[31m\u202e",
    [],
    {},
    [[]],
    {"a": {}},
    ["x", 3],
    [{"name": "x"}],
)
LATER = {
    "an unknown key of the sample": lambda start: start["sample"].update(mass=3.2),
    "an unknown key of the origin": lambda start: start["origin"].update(facility={"name": "x"}),
    "an unknown key of a model": lambda start: start["models"][0].update(format=7),
    "an unknown key": lambda start: start.update(ensemble=["a"]),
    "an unknown descriptor": lambda start: start["descriptors"].update(spin_state={"value": "high"}),
    "an unknown reason code": lambda start: start["quality"].update(reasons=["new"], codes=["beam-lost"]),
    "fewer codes than reasons": lambda start: start["quality"].update(reasons=["a", "b"], codes=["noise"]),
    "another source of the axis": lambda start: start["analysis"]["settings"].update(
        energy_axis={"source": "two foils", "uncertainty": 0.1}
    ),
    "no codes": lambda start: start["quality"].pop("codes"),
    "no origin": lambda start: start.pop("origin"),
    "no sample": lambda start: start.pop("sample"),
    "no models": lambda start: start.pop("models"),
    "no curves": lambda start: start.pop("curves"),
    "no analysis": lambda start: start.pop("analysis"),
    "no diagnostics": lambda start: start.pop("diagnostics"),
    "no descriptors": lambda start: start.pop("descriptors"),
}
"""Changes after which a prediction can still be read."""
UNREADABLE = {
    "an unknown technique": lambda start: start.update(technique="xanes+raman"),
    "an unknown verdict": lambda start: start["quality"].update(verdict="excellent"),
    "quality as text": lambda start: start.update(quality="good"),
    "no technique": lambda start: start.pop("technique"),
    "no quality": lambda start: start.pop("quality"),
    "no time": lambda start: start.pop("time"),
    "time as text": lambda start: start.update(time="yesterday"),
    "no uid": lambda start: start.pop("uid"),
    "raw uids as numbers": lambda start: start.update(raw_uids=[1, 2]),
    "no element": lambda start: start.update(element=None),
}
"""Changes after which a run cannot be a prediction."""


GOOD = 6
MUTANTS = 120
TIMEOUT = 30.0
ALL = [f"good-{n}" for n in range(GOOD)]


def mutate(start, chance):
    """Return a copy of a start document with one to three random changes."""
    changed = copy.deepcopy(start)
    for _ in range(chance.randint(1, 3)):
        place = chance.choice(list(_places(changed)))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys) if keys else None
        change = chance.choice(["remove", "replace", "replace", "replace", "add"])
        if change == "add" and isinstance(place, dict):
            place[chance.choice(["later", "unit", "value", "uid"])] = chance.choice(WEIRD)
        elif key is not None and change == "remove":
            del place[key]
        elif key is not None:
            place[key] = chance.choice(WEIRD)
    return changed


def _places(value):
    """Yield every mapping and list of a document, the outermost most often."""
    if isinstance(value, dict | list):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _places(each)


@pytest.fixture(scope="module")
def real():
    """Return the start document of a real prediction."""
    prediction = analyse_scan(simulated_scan(seed=1), store=BundleStore.default(), settings=XanesSettings())
    noted = prediction.quality.note(Reason("made for a test", ReasonCode.INTERPRETED_INPUT))
    return derived_run(prediction.with_quality(noted), clock=lambda: 1000.0)[0][1]


def renamed(start, name):
    """Return a copy that belongs to a raw run and a trial of its own."""
    own = copy.deepcopy(start)
    trial = {"campaign": "front", "id": name, "parameters": {"x": 1.0}}
    own |= {"uid": f"uid-{name}", "raw_uid": name, "raw_uids": [name]}
    own["origin"] = {**own["origin"], "trial": trial, "proposal": "310000", "keys": {"cell": "4"}}
    own["sample"] = {**own["sample"], "name": "LFP"}
    return own


@pytest.fixture(scope="module")
def catalog(tiled_server, real, insert):
    """Return a catalog of good predictions between strange ones, and entries that are no runs at all."""
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="catalog/later")
    container, chance = publisher.container, random.Random(5)  # noqa: S311 - reproducible, not secret
    strange = []
    for name, change in (LATER | UNREADABLE).items():
        strange.append(renamed(real, name))
        change(strange[-1])
    strange += [mutate(renamed(real, f"mutant-{n}"), chance) for n in range(MUTANTS)]
    entries = [
        {"start": start, "stop": {"uid": "s"}} if chance.random() < 0.8 else {"start": start}
        for start in strange
    ]
    entries += [
        {},
        {"start": None},
        {"start": "x"},
        {"start": []},
        {"stop": 3},
        {"start": {"purpose": "xpdml"}},
    ]
    entries += [{"start": renamed(real, name), "stop": {"uid": "s"}} for name in ALL]
    chance.shuffle(entries)
    insert(container, {f"entry-{number}": metadata for number, metadata in enumerate(entries)})
    yield PredictionCatalog(container)
    publisher.close()


def good(found):
    return sorted(
        each.raw_uids[0] for each in found if each.raw_uids and each.raw_uids[0].startswith("good-")
    )


@pytest.mark.parametrize("change", LATER.values(), ids=LATER)
def test_a_prediction_with_entries_of_another_version_is_read(real, change):
    start = renamed(real, "later")
    change(start)
    found = published(start)
    assert found.start is start
    assert found.raw_uids == ("later",)
    assert set(found.descriptors) in (set(), set(real["descriptors"]))
    assert all(isinstance(reason, Reason) for reason in found.quality.reasons)


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
def test_a_run_that_cannot_be_a_prediction_is_refused_with_its_uid_and_version(real, change):
    start = renamed(real, "later")
    change(start)
    with pytest.raises(PublishError, match=r"run 'uid-later' of bluesky_xpdml '|run 'without uid' of"):
        published(start)
    assert list(readable([start])) == []


def test_codes_are_read_back_and_unspecified_if_they_are_absent_or_unknown(real):
    start = renamed(real, "codes")
    reasons = published(start).quality.reasons
    assert [reason.code for reason in reasons][-1] is ReasonCode.INTERPRETED_INPUT
    LATER["an unknown reason code"](start)
    assert published(start).quality.reasons[0].code is ReasonCode.UNSPECIFIED
    LATER["no codes"](start)
    assert [(str(reason), reason.code) for reason in published(start).quality.reasons] == [
        ("new", ReasonCode.UNSPECIFIED)
    ]


def test_no_change_of_a_document_raises_anything_but_a_publish_error(real):
    chance = random.Random(1)  # noqa: S311 - reproducible, not secret
    n_read = 0
    for number in range(2000):
        start = mutate(renamed(real, f"m-{number}"), chance)
        try:
            found = published(start)
        except PublishError:
            continue
        n_read += 1
        assert isinstance(found.technique, Technique)
        assert all(isinstance(name, Descriptor) for name in found.descriptors)
        assert len(found.rank) == len(published(real).rank)
        assert found.rank > found.rank or found.rank == found.rank
        for read in (read_xanes, lambda *given: read_distribution(*given, over_q=True)):
            with pytest.raises(XpdmlError):
                read({}, found)
    assert 500 < n_read < 2000


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(technique="xanes"),
        Query(element="Fe", sample="LFP"),
        Query(proposal="310000", campaign="front", keys={"cell": "4"}),
        Query(descriptors={"oxidation_state": (0.0, 8.0)}),
        Query(after=900.0, before=1100.0),
    ],
    ids=str,
)
def test_every_query_finds_all_that_can_be_read(catalog, query):
    for superseded in (False, True, False):
        assert good(catalog.find(query, limit=1000, superseded=superseded)) == ALL


def test_runs_of_later_versions_are_found_too(catalog):
    found = {each.raw_uids[0] for each in catalog.find(Query(), limit=1000) if each.raw_uids}
    assert set(LATER) <= found
    assert not set(UNREADABLE) & found


def test_histories_and_clients_of_runs_are_returned(catalog):
    assert good(catalog.history("good-3")) == ["good-3"]
    for name in ("good-3", *LATER, *UNREADABLE):
        assert len(find_predictions(catalog.container, name)) == 1


def test_reading_on_delivers_everything_once(catalog):
    cursor, news = Cursor(), []
    while batch := catalog.since(cursor, limit=20):
        found, cursor = batch
        news += found
        if not found:
            break
    assert good(news) == ALL
    assert len({each.start["uid"] for each in news}) == len(news)
    assert catalog.since(cursor)[0] == []


def test_a_subscription_goes_on_past_what_cannot_be_read(catalog):
    came = queue.Queue()
    with catalog.subscribe(came.put, cursor=Cursor(), query=Query(sample="LFP"), interval=0.2):
        names = []
        while len(names) < GOOD:
            names += good([came.get(timeout=TIMEOUT)])
    assert sorted(names) == ALL


def test_tables_hold_all_that_can_be_read(catalog):
    found = catalog.find(Query(), limit=1000)
    assert set(ALL) <= set(frame(found)["raw_uid"])
    assert set(ALL) <= set(dataset(found)["raw_uid"].values)


def test_planners_find_the_answers_of_their_trials(catalog):
    criteria = AnswerCriteria(technique="xanes", timeout=1.0, campaign="front")
    result = query_answers(catalog, [*ALL, *LATER, *UNREADABLE])
    assert result.error == ""
    for trial in ALL:
        answer = select_answer(predictions_of_trial(result.predictions, criteria, trial), criteria)
        assert answer is not None
        assert Descriptor.OXIDATION_STATE in answer.descriptors


def test_a_skipped_run_is_logged_once_with_its_uid_key_and_version(catalog, real, caplog):
    start = renamed(real, "logged")
    start["technique"] = "raman"
    catalog.container.create_container(key="logged", metadata={"start": start})
    for _ in range(3):
        assert good(catalog.find(Query(), limit=1000)) == ALL
    (message,) = (each.getMessage() for each in caplog.records if "uid-logged" in each.getMessage())
    assert all(part in message for part in ("technique", "raman", start["analysis"]["version"]))
