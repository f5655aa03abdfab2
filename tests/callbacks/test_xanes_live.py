"""Absorption scans are answered while they go on, and the answers converge to the final one."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, TiledPublisher, XanesSettings, XpdmlCallback
from bluesky_xpdml.analysis.xanes import analyse_partial_scan, analyse_scan
from bluesky_xpdml.demo.beamline import XasBeamline, scan_sample
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import find_predictions
from bluesky_xpdml.settings import LiveSettings, ScatteringSettings
from bluesky_xpdml.sources.files import read_scan

LIVE = LiveSettings(xanes=True, interval=0.0)
MAIN = ("oxidation_state", "coordination_number", "bond_length")
FOIL = 7110.75


@pytest.fixture(scope="module")
def documents(documents_of):
    """Return the documents of a scan of LaFeO3 on the simulated beamline, the axis 1.8 eV off."""
    return documents_of(scan_sample(XasBeamline(seed=3), "LaFeO3"))


def played(derived, store, documents, **settings):
    """Send documents one at a time, each worked off before the next comes."""
    with XpdmlCallback(CallbackPublisher(derived), store=store, **settings) as callback:
        for name, document in documents:
            callback(name, document)
            assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
    return derived


def rows_of(derived, uid):
    documents = derived.documents
    (descriptor,) = (d["uid"] for name, d in documents if name == "descriptor" and d["run_start"] == uid)
    return [d["data"] for name, d in documents if name == "event" and d["descriptor"] == descriptor]


def test_rows_begin_behind_the_edge_narrow_and_end_at_the_final_answer(derived, store, documents):
    played(derived, store, documents, live=LIVE)
    live, final = derived.starts
    assert (live["purpose"], final["purpose"]) == ("xpdml.live", "xpdml")
    assert live["raw_uid"] == final["raw_uid"]
    assert live["element"] == "Fe"
    rows = rows_of(derived, live["uid"])
    energies = [d["data"]["mono_energy"] for name, d in documents if name == "event"]
    first = energies[len(energies) - len(rows)]
    assert FOIL + 12.0 < first < FOIL + 24.0
    completeness = [row["completeness"] for row in rows]
    assert completeness == sorted(completeness)
    assert completeness[-1] == 1.0
    widths = np.array([row["oxidation_state_high"] - row["oxidation_state_low"] for row in rows])
    assert widths[0] > 2.0 * widths[-1]
    for name in MAIN:
        descriptor = final["descriptors"][name]
        assert rows[-1][name] == pytest.approx(descriptor["value"], abs=1e-9)
        assert rows[-1][f"{name}_low"] == pytest.approx(descriptor["low"], abs=1e-9)
        assert rows[0][f"{name}_low"] <= descriptor["value"] <= rows[0][f"{name}_high"]


def test_rows_come_no_more_often_than_the_interval(derived, store, documents):
    played(derived, store, documents, live=LiveSettings(xanes=True, interval=3600.0))
    assert [start["purpose"] for start in derived.starts] == ["xpdml"]
    n_events = sum(name == "event" for name, _ in derived.documents)
    assert n_events == 2


def test_nothing_is_said_of_scans_that_go_on_unless_it_is_asked_for(derived, store, documents):
    played(derived, store, documents, scattering=ScatteringSettings(live=True, live_interval=0.0))
    assert [start["purpose"] for start in derived.starts] == ["xpdml"]


def test_live_answers_need_a_publisher_that_takes_them(store):
    class WholeRuns:
        def publish(self, documents):
            """Take a run."""

        def close(self):
            """Close nothing."""

    with pytest.raises(PublishError, match="takes running runs, found WholeRuns"):
        XpdmlCallback(WholeRuns(), store=store, live=LIVE)


def test_live_rows_of_a_scan_can_be_read_from_tiled_before_it_stops(tiled_server, store, documents):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="absorption/live")
    raw_uid = documents[0][1]["uid"]
    with XpdmlCallback(publisher, store=store, live=LIVE) as callback:
        *before, stop = documents
        for name, document in before:
            callback(name, document)
        assert callback.drain(timeout=60)
        assert find_predictions(publisher.container, raw_uid)[0].metadata["start"]["purpose"] == "xpdml.live"
        callback(*stop)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
        live, final = find_predictions(publisher.container, raw_uid)
        assert final.metadata["start"]["purpose"] == "xpdml"
        assert live["updates"].read()["completeness"].values[-1] == 1.0


@pytest.mark.parametrize("name", ["Fe2O3_rt_01.xdi", "MnO2_rt_01.xdi"])
def test_measured_scans_converge(shared_data, name):
    """The answer comes nearer with the energy and is the final one past the window."""
    found = sorted((shared_data / "experiment" / "xanes").rglob(name))
    if not found:
        pytest.skip(f"no file {name} among the development data")
    element = name[:2]
    scan = read_scan(found[0], element=element, edge="K")
    store, settings = BundleStore.default(), XanesSettings(energy_offset=0.0)
    final = analyse_scan(scan, store=store, settings=settings).descriptors
    foil = {"Fe": 7110.75, "Mn": 6537.67}[element]
    for reach in (20.0, 26.0, 32.0, 61.0):
        (answer,) = analyse_partial_scan(cut(scan, foil + reach), store=store, settings=settings)
        for key in MAIN:
            whole = final[key]
            tolerance = 1e-12 if reach > 60.0 else answer.descriptors[key].high - answer.descriptors[key].low
            assert answer.descriptors[key].value == pytest.approx(whole.value, abs=tolerance)
        assert answer.diagnostics["reach"] <= reach


def cut(scan, end):
    kept = scan.energy <= end
    channels = {
        key: getattr(scan, key)[kept]
        for key in ("i0", "it", "ir", "fluorescence", "mu")
        if getattr(scan, key) is not None
    }
    return replace(scan, energy=scan.energy[kept], **channels)
