"""Repeats are merged while they come: runs of one sample, and sweeps of one run."""

import pytest

from bluesky_xpdml import CallbackPublisher, TiledPublisher, XpdmlCallback
from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.documents import RunCollector
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.publish import find_predictions
from bluesky_xpdml.reduction.repeats import merge_repeats
from bluesky_xpdml.settings import SeriesSettings, Settings

NIGHT = SeriesSettings(within=3600.0)


def moved(documents, hours, **start):
    """Return the same run under another uid, begun some hours after midnight."""
    old = documents[0][1]["uid"]
    uid = f"{old[:8]}-{hours}-{len(start)}"
    found = []
    for name, document in documents:
        new = {key: f"{uid}-{document[key]}" for key in ("uid", "descriptor") if key in document}
        if name == "start":
            new = {"uid": uid, "time": 1e9 + 3600.0 * hours, **start}
        elif "run_start" in document:
            new["run_start"] = uid
        found.append((name, document | new))
    return found


class Watched:
    """A callback that merges, and what it published."""

    def __init__(self, derived, store, settings):
        self.derived = derived
        self.callback = XpdmlCallback(CallbackPublisher(derived), store=store, repeats=settings)

    def send(self, *runs):
        for name, document in [pair for run in runs for pair in run]:
            self.callback(name, document)
        assert self.callback.drain(timeout=60)
        assert self.callback.statistics.errors == 0
        return self

    @property
    def merged(self):
        """How many repeats each series prediction was made of."""
        return [
            start["analysis"]["settings"]["repeats"]["count"]
            for start in self.derived.starts
            if "repeats" in start["analysis"]["settings"]
        ]


@pytest.fixture
def watch(derived, store):
    opened = []

    def open_one(settings=NIGHT):
        opened.append(Watched(derived, store, settings))
        return opened[-1]

    yield open_one
    for one in opened:
        one.callback.close()


def test_runs_of_one_sample_become_one_series_in_tiled(run_engine, tiled_server, store, iron_scan):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="repeats")
    with XpdmlCallback(publisher, store=store, repeats=NIGHT) as callback:
        token = run_engine.subscribe(callback)
        uids = [iron_scan()[0][1]["uid"] for _ in range(2)]
        run_engine.unsubscribe(token)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
        assert callback.statistics.predicted == 2
        alone, *series = [run.metadata["start"] for run in find_predictions(publisher.container, uids[0])]
        assert len(find_predictions(publisher.container, uids[1])) == 1
    assert "repeats" not in alone["analysis"]["settings"]
    (last,) = series
    assert last["raw_uids"] == uids
    assert (last["technique"], last["element"], last["sample"]["name"]) == ("xanes", "Fe", "LFP-3")
    repeats = last["analysis"]["settings"]["repeats"]
    assert (repeats["count"], repeats["kept"], repeats["rejected"]) == (2, 2, [])
    assert last["analysis"]["profile"] == "generic"
    state = last["descriptors"]["oxidation_state"]
    assert last["diagnostics"]["repeat_count"] == 2.0
    assert last["diagnostics"]["repeat_interval_width"] == pytest.approx(state["high"] - state["low"])
    assert last["diagnostics"]["repeats_enough"] == float(repeats["enough"])


def test_the_series_is_answered_by_the_mean_of_its_spectra(watch, derived, store, iron_scan):
    runs = [moved(iron_scan(), hours) for hours in (0.0, 0.5, 1.0)]
    watch().send(*runs)
    spectra = []
    for run in runs:
        collector = RunCollector(run[0][1])
        for name, document in run[1:]:
            collector.feed(name, document)
        (found,) = RunAnalysis(Settings(), store=store).predict(collector.finish())
        spectra.append(found.xanes)
    expected = predict_xanes(merge_repeats(spectra).xanes, store).descriptors
    published = derived.starts[-1]["descriptors"]
    assert {name: one["value"] for name, one in published.items()} == pytest.approx(
        {name: one.value for name, one in expected.items()}
    )


@pytest.mark.parametrize(
    ("changes", "merged"),
    [
        ({}, [2]),
        ({"sample": {"name": "another name", "uid": "s-1"}}, [2]),
        ({"sample": {"name": "LFP-3", "uid": "s-2"}}, []),
        ({"sample": {}}, []),
        ({"time": 1e9 + 3 * 3600.0}, []),
        ({"element": "Mn"}, []),
        ({"mode": "fluorescence"}, []),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_belongs_together(watch, iron_scan, changes, merged):
    channels = ("i0", "it", "ir", "fluorescence")
    one, two = (moved(iron_scan(channels), hours) for hours in (0.0, 0.5))
    two[0][1].update(changes)
    assert watch().send(one, two).merged == merged


def test_unnamed_samples_are_never_merged(watch, iron_scan):
    runs = [moved(iron_scan(), hours, sample={}) for hours in (0.0, 0.1, 0.2)]
    assert watch().send(*runs).merged == []


def test_the_time_counts_from_the_run_before(watch, iron_scan):
    runs = [moved(iron_scan(), hours) for hours in (0.0, 0.8, 1.6, 4.0)]
    assert watch().send(*runs).merged == [2, 3]


def test_a_run_that_comes_again_is_no_repeat(watch, iron_scan):
    one, two = (moved(iron_scan(), hours) for hours in (0.0, 0.5))
    assert watch().send(one, one, two, one, two).merged == [2]


def test_a_full_series_makes_room_for_the_next(watch, iron_scan):
    runs = [moved(iron_scan(), 0.1 * number) for number in range(4)]
    assert watch(SeriesSettings(at_most=2)).send(*runs).merged == [2, 2]


def test_nothing_is_merged_unless_it_is_asked_for(callback, derived, iron_scan):
    for run in (moved(iron_scan(), hours) for hours in (0.0, 0.1)):
        for name, document in run:
            callback(name, document)
    assert callback.drain(timeout=60)
    assert len(derived.starts) == 2


def test_a_failed_run_is_published_and_left_out(watch, derived, iron_scan):
    runs = [moved(iron_scan(stop_after=stop), hours) for hours, stop in ((0.0, None), (0.1, 10), (0.2, None))]
    assert watch().send(*runs).merged == [2]
    assert [start["quality"]["verdict"] == "failed" for start in derived.starts] == [
        False,
        True,
        False,
        False,
    ]
    assert derived.starts[-1]["raw_uids"] == [runs[0][0][1]["uid"], runs[2][0][1]["uid"]]


def test_a_repeat_that_differs_is_left_out_and_named(watch, derived, iron_scan):
    runs = [moved(iron_scan(("i0", "it")), 0.1 * number, scan_id=number) for number in range(4)]
    for name, document in runs[2]:
        if name == "event":
            # Somebody took the wrong sample: its edge is 6 eV off.
            document["data"] = document["data"] | {"energy": document["data"]["energy"] + 6.0}
    watch().send(*runs)
    last = derived.starts[-1]
    repeats = last["analysis"]["settings"]["repeats"]
    assert (repeats["count"], repeats["kept"]) == (4, 3)
    (name,) = repeats["rejected"]
    assert any(f"repeat {name} left out" in reason for reason in last["quality"]["reasons"])
    assert last["raw_uids"] == [runs[number][0][1]["uid"] for number in (0, 1, 3)]


@pytest.mark.parametrize("sample", [{"name": "LFP-3"}, {}], ids=["named", "unnamed"])
def test_sweeps_of_one_run_are_repeats_whosever_they_are(watch, derived, iron_scan, sample):
    run = iron_scan(sample=sample)
    head, events, stop = run[:2], run[2:-1], run[-1]
    back = [
        ("event", document | {"uid": f"back-{number}", "seq_num": len(events) + number})
        for number, (_, document) in enumerate(reversed(events), start=1)
    ]
    head[0][1]["num_points"] = 2 * len(events)
    assert watch().send([*head, *events, *back, stop]).merged == [2]
    single, both = derived.starts
    assert single["raw_uids"] == both["raw_uids"]
    assert single["uid"] != both["uid"]
    value = single["descriptors"]["oxidation_state"]["value"]
    assert both["descriptors"]["oxidation_state"]["value"] == pytest.approx(value, abs=0.02)


def test_what_cannot_be_a_series_is_refused():
    with pytest.raises(SettingsError, match="expected a positive time between repeats"):
        SeriesSettings(within=0.0)
    with pytest.raises(SettingsError, match="at least 2 repeats"):
        SeriesSettings(at_most=1)
