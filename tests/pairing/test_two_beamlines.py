"""The simulated beamlines measure one sample both ways, in either order, before one callback or two."""

import pytest

from bluesky_xpdml import TiledPublisher, XpdmlCallback
from bluesky_xpdml.demo.beamline import ScatteringBeamline, XasBeamline, scan_sample, scattering_scan
from bluesky_xpdml.publish import PredictionCatalog, Query
from bluesky_xpdml.settings import PairingSettings

PIXELS = 256


def plan_of(technique, name, **more):
    """Return the plan that measures the perovskite under a name."""
    said = {"sample": {"name": name, "composition": "LaFeO3"}, "sample_name": name, **more}
    if technique == "xanes":
        return scan_sample(XasBeamline(seed=3), "LaFeO3", md=said)
    return scattering_scan(ScatteringBeamline(seed=3, pixels=PIXELS), "LaFeO3", md=said)


def measured(run_engine, callback, plan):
    """Run a plan before a callback, wait for its answer, and return the uid of the run."""
    token = run_engine.subscribe(callback)
    try:
        (uid,) = run_engine(plan)
    finally:
        run_engine.unsubscribe(token)
    assert callback.drain(timeout=120)
    assert (callback.statistics.errors, callback.pairs.errors) == (0, 0)
    return uid


@pytest.fixture
def callbacks(tiled_server, store):
    """Return a function that makes a callback of a beamline, all of them into one container."""
    opened = []

    def open_one(settings, path):
        publisher = TiledPublisher.from_uri(tiled_server.uri, path=path)
        opened.append(XpdmlCallback(publisher, store=store, pairing=settings))
        return opened[-1], PredictionCatalog(publisher.container)

    yield open_one
    for callback in opened:
        callback.close()


@pytest.mark.parametrize("order", [("xanes", "pdf"), pytest.param(("pdf", "xanes"), marks=pytest.mark.slow)])
def test_two_callbacks_in_either_order(run_engine, callbacks, order):
    path, uids = f"two/{'-'.join(order)}", {}
    for technique in order:
        callback, catalog = callbacks(PairingSettings(), path)
        uids[technique] = measured(
            run_engine, callback, plan_of(technique, "LFO-1", beamline_id=technique, proposal_id="7")
        )
    (found,) = catalog.find(Query(technique="xanes+pdf"))
    assert found.raw_uids == (uids["xanes"], uids["pdf"])
    assert (found.origin.beamline, found.origin.proposal) == ("xanes + pdf", "7")
    assert found.quality.verdict in ("good", "suspect")
    state = found.descriptors["oxidation_state"]
    assert state.low <= 3.0 <= state.high
    singles = {each.technique: each.uid for each in catalog.find(Query()) if each.uid != found.uid}
    told = found.start["analysis"]["settings"]["pairing"]
    assert (told["xanes"], told["pdf"]) == (singles["xanes"], singles["pdf"])
    assert callback.pairs.joint == 1


@pytest.mark.slow
def test_one_callback_pairs_what_a_planner_asked_for_under_any_name(run_engine, callbacks):
    callback, catalog = callbacks(PairingSettings(), "trial")
    uids = [
        measured(
            run_engine,
            callback,
            plan_of(technique, name, xpdml_trial={"campaign": "c", "id": 4, "parameters": {"x": 0.5}}),
        )
        for technique, name in (("pdf", "spot 4 at PDF"), ("xanes", "spot 4 at BMM"))
    ]
    (found,) = catalog.find(Query(technique="xanes+pdf", campaign="c"))
    assert sorted(found.raw_uids) == sorted(uids)
    assert (found.origin.trial["id"], found.origin.trial["parameters"]) == (4, {"x": 0.5})


@pytest.mark.slow
def test_a_key_of_the_users_is_carried_and_decides(run_engine, callbacks):
    settings = PairingSettings(key="pellet.number")
    callback, catalog = callbacks(settings, "key")
    for technique, name, number in (("pdf", "a", 7), ("xanes", "b", 7), ("xanes", "a", 8)):
        measured(run_engine, callback, plan_of(technique, name, pellet={"number": number}))
    (found,) = catalog.find(Query(technique="xanes+pdf"))
    assert found.origin.keys == {"pellet_number": "7"}
    assert found.start["analysis"]["settings"]["pairing"]["by"] == "key"


@pytest.mark.slow
def test_either_raw_uid_finds_the_joint_answer(run_engine, callbacks):
    callback, catalog = callbacks(PairingSettings(), "either")
    uids = [measured(run_engine, callback, plan_of(each, "LFO-2")) for each in ("xanes", "pdf")]
    for uid in uids:
        assert "xanes+pdf" in {each.technique for each in catalog.of_run(uid)}
