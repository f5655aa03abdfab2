"""A catalog is analysed anew by several processes: nothing is lost, nothing doubled, whatever dies."""

import copy
import os
import pickle
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from multiprocessing import active_children

import pytest
from bluesky_tiled_plugins import TiledWriter

from bluesky_xpdml import CallbackPublisher, XpdmlCallback
from bluesky_xpdml.callbacks.reprocess import Choice, pools, reprocess
from bluesky_xpdml.callbacks.reprocess.worker import Job
from bluesky_xpdml.errors import MissingDataError, MissingExtraError, SettingsError, SourceError
from bluesky_xpdml.factory.bench.fault_server import KEY, Server
from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.publish import TiledPublisher, derived_run, open_existing
from bluesky_xpdml.publish.requests import Requests
from bluesky_xpdml.records import Origin, Prediction, Quality, Sample
from bluesky_xpdml.settings import PairingSettings, SeriesSettings, Settings
from bluesky_xpdml.vocabulary import Reason, ReasonCode, Technique

WHEN = 1.7e9
HOUR = 3600.0
SI = {"mono": "Si(111)"}

POISON = """
import os, signal
from bluesky_xpdml.callbacks.reprocess.worker import analyse_units

def analyse_units_or_die(job, units):
    if any("poison" in uid for unit in units for uid in unit.uids):
        os.kill(os.getpid(), signal.SIGKILL)
    return analyse_units(job, units)
"""
"""What a worker does if one of its runs crashes the process."""


class Catalog:
    """Containers of raw runs and of predictions on a server."""

    def __init__(self, server, name, folder):
        self.settings = Settings(
            tiled_uri=server.uri,
            tiled_path=f"{name}/derived",
            tiled_raw_path=f"{name}/raw",
            outbox=replace(Settings().outbox, folder=folder),
        )
        self._publisher = TiledPublisher.from_uri(server.uri, path=self.settings.tiled_raw_path)
        self.documents = []

    def store(self, uid, *, when=WHEN, has_foil=True, **start):
        """Store an iron scan, with or without its foil."""
        documents = []
        for name, document in run_documents(uid, when):
            entries = dict(document)
            if name == "start":
                entries |= start
            if not has_foil:
                entries = _without_foil(entries)
            documents.append((name, entries))
        self._publisher.publish(documents)
        self.documents += documents

    def store_images(self, documents, *, when):
        """Store a run of total scattering as Bluesky's own writer does."""
        timed = [(name, each | {"time": when} if name == "start" else each) for name, each in documents]
        writer = TiledWriter(self._publisher.container, max_array_size=0)
        for name, document in copy.deepcopy(timed):
            writer(name, document)
        self.documents += timed

    def store_many(self, count):
        """Store some runs, and return their uids."""
        # As long as real ones: shorter ones are searched as the beginning of a uid.
        uids = [f"run-{number:032d}" for number in range(count)]
        for number, uid in enumerate(uids):
            self.store(uid, when=WHEN + number, proposal="31415" if number % 2 else "27182")
        return uids

    def live_starts(self, settings):
        """Return the start documents that a callback gives which sees all runs in their order."""
        found = []
        publisher = CallbackPublisher(lambda name, each: found.append(each) if name == "start" else None)
        with XpdmlCallback(publisher, settings=settings) as callback:
            for name, document in self.documents:
                callback(name, document)
            assert callback.drain(300)
        return found

    def starts(self):
        container = open_existing(self.settings.tiled_uri, path=self.settings.tiled_path)
        try:
            return [run.start for page in Requests(container).pages() for run in page]
        finally:
            container.context.http_client.close()

    def answers(self):
        """Return how many derived runs each raw run has."""
        return Counter(uid for start in self.starts() for uid in start["raw_uids"])

    def close(self):
        self._publisher.close()


def _without_foil(document):
    of_channels = {"data", "timestamps", "data_keys"}
    return {
        key: {name: each for name, each in value.items() if name != "ir"} if key in of_channels else value
        for key, value in document.items()
    }


def _entry(start, path):
    for name in path.split("."):
        start = start[name]
    return start


def _axes(starts):
    return {start["raw_uid"]: start["analysis"]["settings"]["energy_axis"]["source"] for start in starts}


@pytest.fixture
def catalog(tiled_server, request, tmp_path):
    opened = Catalog(tiled_server, request.node.name.replace("[", "-").replace("]", ""), tmp_path)
    yield opened
    opened.close()


@contextmanager
def cluster(server):
    """Run a Dask cluster of two worker processes, which have the key of the server."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        env={"TILED_API_KEY": server.api_key},
    ) as found:
        yield found


class Killer:
    """Kills a process when the first answers come."""

    def __init__(self, process_of):
        self._process_of = process_of
        self.killed = 0

    def __call__(self, *_):
        if not self.killed:
            self.killed = self._process_of()
            os.kill(self.killed, signal.SIGKILL)


def test_a_catalog_is_answered_once_and_skipped_the_second_time(catalog):
    uids = catalog.store_many(8)
    some = reprocess(catalog.settings, Choice(where={"proposal": "31415"}), workers=1)
    assert (some.chosen, some.answered, some.skipped) == (4, 4, 0)
    rest = reprocess(catalog.settings, workers=1)
    assert (rest.chosen, rest.answered, rest.skipped) == (8, 4, 4)
    again = reprocess(catalog.settings, workers=1)
    assert (again.answered, again.skipped) == (0, 8)
    assert again.is_whole
    everything = reprocess(catalog.settings, Choice(again=True, since=WHEN + 6), workers=1)
    assert (everything.chosen, everything.answered, everything.skipped) == (2, 2, 0)
    assert catalog.answers() == dict.fromkeys(uids, 1)


def test_runs_whose_answers_are_gone_from_the_server_are_analysed_again(catalog):
    uids = catalog.store_many(2)
    reprocess(catalog.settings, workers=1)
    elsewhere = replace(catalog.settings, tiled_path=f"{catalog.settings.tiled_path}-2")
    assert reprocess(elsewhere, workers=1).answered == 2
    container = open_existing(catalog.settings.tiled_uri, path=catalog.settings.tiled_path)
    container.delete_contents([catalog.starts()[0]["uid"]], recursive=True, external_only=False)
    container.context.http_client.close()
    again = reprocess(catalog.settings, workers=1)
    assert (again.answered, again.skipped) == (1, 1)
    assert catalog.answers() == dict.fromkeys(uids, 1)


def test_other_settings_are_another_answer(catalog):
    (uid,) = catalog.store_many(1)
    reprocess(catalog.settings, workers=1)
    other = replace(catalog.settings, xanes=replace(catalog.settings.xanes, degree=1))
    assert reprocess(other, workers=1).answered == 1
    assert catalog.answers() == {uid: 2}


@pytest.mark.parametrize("runs", [12, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_dask_worker_that_is_killed_loses_and_doubles_nothing(runs, catalog, tiled_server, monkeypatch):
    monkeypatch.setattr(pools, "RUNS_PER_TASK", 2 if runs < 100 else 8)
    uids = catalog.store_many(runs)
    with cluster(tiled_server) as dask:
        killer = Killer(lambda: next(iter(dask.workers.values())).pid)
        first = reprocess(catalog.settings, dask=dask.scheduler_address, on_sent=killer)
        second = reprocess(catalog.settings, dask=dask.scheduler_address)
    assert killer.killed
    assert (first.answered, second.skipped) == (runs, runs)
    assert catalog.answers() == dict.fromkeys(uids, 1)


@pytest.mark.slow
def test_a_process_that_is_killed_loses_and_doubles_nothing(catalog, monkeypatch):
    monkeypatch.setattr(pools, "RUNS_PER_TASK", 2)
    uids = catalog.store_many(12)
    killer = Killer(lambda: active_children()[0].pid)
    done = reprocess(catalog.settings, workers=2, on_sent=killer)
    assert killer.killed
    assert done.answered == 12
    assert catalog.answers() == dict.fromkeys(uids, 1)


@pytest.mark.slow
def test_a_server_that_is_away_in_between_loses_and_doubles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "RUNS_PER_TASK", 2)
    with Server(tmp_path) as server:
        raw = TiledPublisher.from_uri(server.uri, api_key=KEY, path="raw")
        uids = [f"run-{number:032d}" for number in range(8)]
        for uid in uids:
            raw.publish(list(run_documents(uid, WHEN)))
        raw.close()
        settings = Settings(
            tiled_uri=server.uri,
            tiled_path="derived",
            tiled_raw_path="raw",
            outbox=replace(Settings().outbox, folder=tmp_path / "state"),
        )
        bounced = []

        def bounce(start, _):
            if not bounced:
                server.kill()
                server.start()
            bounced.append(start["raw_uid"])

        done = reprocess(settings, api_key=KEY, workers=1, on_sent=bounce)
        answers = server.answers("derived")
    assert done.answered == 8
    assert sorted(bounced) == uids
    assert (answers.found(uids), answers.doubled, answers.incomplete) == (8, 0, 0)


def test_a_run_that_ends_every_process_fails_by_name_and_the_rest_is_answered(catalog, tmp_path, monkeypatch):
    (tmp_path / "poisoned_worker.py").write_text(POISON)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    worker = import_module("poisoned_worker")
    monkeypatch.setattr(pools, "analyse_units", worker.analyse_units_or_die)
    uids = [*catalog.store_many(3), "poison"]
    catalog.store("poison")
    done = reprocess(catalog.settings, workers=1)
    assert (done.answered, list(done.failed)) == (3, ["poison"])
    assert "each one ended that tried" in done.failed["poison"]
    assert catalog.answers() == dict.fromkeys(uids, 1)
    (failed,) = (start for start in catalog.starts() if start["raw_uid"] == "poison")
    assert failed["quality"]["codes"][0] == ReasonCode.PROCESS_ENDED
    again = reprocess(catalog.settings, workers=1)
    assert (again.skipped, list(again.failed)) == (3, ["poison"])


def test_runs_without_a_foil_are_answered_as_by_a_callback_that_saw_all_in_order(catalog):
    catalog.store("before", when=WHEN, has_foil=False, **SI)
    catalog.store("foil-run", when=WHEN + HOUR, **SI)
    catalog.store("after", when=WHEN + 2 * HOUR, has_foil=False, **SI)
    catalog.store("other-mono", when=WHEN + 3 * HOUR, has_foil=False, mono="Si(311)")
    expected = catalog.live_starts(catalog.settings)
    assert set(_axes(expected).values()) == {"none", "reference", "stored"}
    done = reprocess(catalog.settings, workers=1)
    assert (done.answered, done.uncalibrated) == (4, 2)
    assert _axes(catalog.starts()) == _axes(expected)
    assert {start["uid"] for start in catalog.starts()} == {start["uid"] for start in expected}


def test_a_foil_among_the_runs_that_are_not_chosen_counts(catalog):
    catalog.store("foil-run", when=WHEN, sample_name="Fe foil", **SI)
    catalog.store("after", when=WHEN + HOUR, has_foil=False, sample_name="LFP", **SI)
    reprocess(catalog.settings, Choice(where={"sample_name": "Fe foil"}), workers=1)
    later = replace(catalog.settings, xanes=replace(catalog.settings.xanes, degree=1))
    done = reprocess(later, Choice(where={"sample_name": "LFP"}), workers=1)
    assert (done.answered, done.uncalibrated) == (1, 0)
    assert _axes(catalog.starts()) == {"foil-run": "reference", "after": "stored"}
    assert catalog.answers() == {"foil-run": 1, "after": 1}


def test_repeats_are_merged_as_by_a_callback_that_saw_all_in_order(catalog):
    for number in range(3):
        catalog.store(f"lfp-{number}", when=WHEN + number * HOUR, sample_name="LFP")
        catalog.store(f"lco-{number}", when=WHEN + (number + 0.5) * HOUR, sample_name="LCO")
    catalog.store("lfp-next-day", when=WHEN + 30 * HOUR, sample_name="LFP")
    settings = replace(catalog.settings, repeats=SeriesSettings(within=4 * HOUR))
    expected = catalog.live_starts(settings)
    done = reprocess(settings, workers=1)
    assert (done.chosen, done.answered) == (7, 7)
    assert {start["uid"] for start in catalog.starts()} == {start["uid"] for start in expected}
    assert max(len(start["raw_uids"]) for start in expected) == 3


def test_backgrounds_by_name_are_those_that_a_callback_saw_before(catalog, powder):
    empty = {"sample_name": "kapton", "sample_composition": None, "composition_string": None}
    runs = [
        powder.dark_run("dark-run"),
        powder.older(uid="kapton-1", sc_dk_field_uid="dark-run", **empty),
        powder.older(uid="nio-run-1", sc_dk_field_uid="dark-run"),
        powder.older(uid="kapton-2", sc_dk_field_uid="dark-run", **empty),
        powder.older(uid="nio-run-2", sc_dk_field_uid="dark-run"),
    ]
    for number, documents in enumerate(runs):
        catalog.store_images(documents, when=WHEN + number)
    scattering = replace(catalog.settings.scattering, background="kapton")
    settings = replace(catalog.settings, scattering=scattering)
    expected = catalog.live_starts(settings)
    done = reprocess(settings, workers=1)
    assert (done.chosen, done.ignored, done.unread) == (5, 1, {})
    found = {start["raw_uid"]: start for start in catalog.starts()}
    for start in expected:
        same = found.pop(start["raw_uid"])
        for key in ("uid", "quality", "descriptors", "analysis.settings"):
            assert _entry(same, key) == _entry(start, key)
    assert found == {}


def test_joint_answers_are_made_at_the_end(catalog):
    catalog.store("lfp-spectrum", sample_name="LFP")
    settings = replace(catalog.settings, pairing=PairingSettings(within=HOUR))
    publisher = TiledPublisher.from_uri(settings.tiled_uri, path=settings.tiled_path)
    curve = Prediction(
        technique=Technique.PDF,
        element="Fe",
        edge="",
        quality=Quality().failed(Reason("no image", ReasonCode.MISSING_DATA)),
        sample=Sample(name="LFP"),
        raw_uids=("lfp-curve",),
        origin=Origin(time=WHEN),
    )
    publisher.publish(derived_run(curve))
    publisher.close()
    assert reprocess(settings, workers=1).joint == 1
    (joint,) = (start for start in catalog.starts() if start["technique"] == Technique.XANES_PDF)
    assert joint["raw_uids"] == ["lfp-spectrum", "lfp-curve"]
    assert reprocess(settings, workers=1).joint == 0


def test_no_key_is_sent_to_a_scheduler(tiled_server):
    settings = Settings(tiled_uri=tiled_server.uri, tiled_raw_path="raw")
    assert tiled_server.api_key in settings.tiled_uri
    sent = pickle.dumps(Job.under(settings))
    assert tiled_server.api_key.encode() not in sent


def test_conditions_that_no_run_fulfils_are_shown(catalog):
    catalog.store_many(1)
    with pytest.raises(MissingDataError, match=r"fulfil: proposal=27182; found none: .* needs quotes"):
        reprocess(catalog.settings, Choice(where={"proposal": 27182}), workers=1)
    with pytest.raises(SettingsError, match=r"expected tiled.raw_path"):
        reprocess(replace(catalog.settings, tiled_raw_path=""), workers=1)


def test_a_scheduler_that_is_not_there_is_said(catalog, monkeypatch):
    monkeypatch.setattr(pools, "CONNECT_TIMEOUT", 0.5)
    catalog.store_many(1)
    with pytest.raises(SourceError, match=r"expected a Dask scheduler at tcp://127.0.0.1:9"):
        reprocess(catalog.settings, dask="tcp://127.0.0.1:9")


def test_without_dask_the_extra_is_named(catalog, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    catalog.store_many(1)
    with pytest.raises(MissingExtraError, match=r"pip install 'bluesky-xpdml\[dask\]'"):
        reprocess(catalog.settings, dask="tcp://127.0.0.1:9")
