"""Total scattering with a real RunEngine, a real server, spoiled streams, and many frames."""

import copy
import gc
import logging
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from bluesky.plans import count
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ophyd.sim import SynSignalWithRegistry

from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback
from bluesky_xpdml.documents.stored import StoredRuns, run_documents
from bluesky_xpdml.publish import TiledPublisher, find_predictions
from bluesky_xpdml.settings import ScatteringSettings

logger = logging.getLogger(__name__)

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**30), math.nan, math.inf, "", "Ni", b"x", [[1], [2, 3]], {}, []]),
    st.floats(),
    st.text(max_size=4),
    st.just(np.zeros((0, 3))),
    st.just(np.full((128, 128), np.nan)),
    st.just(np.full((128, 128), "x")),
    st.just(np.full((128, 128), -1e308)),
    st.just(np.zeros((128, 128), dtype=np.uint16)),
    st.dictionaries(st.sampled_from(["dist", "Ni", "poni1"]), st.integers(), max_size=3),
)
POSITION = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), POSITION, st.just(0.0), st.none()),
        st.tuples(st.just("repeat"), POSITION, POSITION, st.none()),
        st.tuples(st.just("swap"), POSITION, POSITION, st.none()),
        st.tuples(st.sampled_from(["field", "inner"]), POSITION, POSITION, JUNK),
        st.tuples(st.just("document"), POSITION, st.just(0.0), JUNK),
    ),
    max_size=8,
)
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def no_models(tmp_path_factory):
    return BundleStore(tmp_path_factory.mktemp("no-models"))


def changed(documents, changes):
    """Return the stream with every change made to it in turn."""
    stream = [(name, copy.deepcopy(document)) for name, document in documents]
    for kind, where, other, junk in changes:
        if not stream:
            break
        i, j = int(where * len(stream)), int(other * len(stream))
        if kind == "drop":
            del stream[i]
        elif kind == "repeat":
            stream.insert(j, copy.deepcopy(stream[i]))
        elif kind == "swap":
            stream[i], stream[j] = stream[j], stream[i]
        elif kind == "document":
            stream[i] = (stream[i][0], junk)
        else:
            spoil(stream[i][1], kind, other, junk)
    return stream


def spoil(document, kind, where, junk):
    """Change one field of a document, or one of the mapping inside it."""
    if not isinstance(document, dict):
        return
    inside = [value for value in document.values() if isinstance(value, dict) and value]
    target = inside[int(where * len(inside))] if kind == "inner" and inside else document
    if target:
        target[sorted(target, key=str)[int(where * len(target))]] = junk


def check(store, documents):
    derived = []
    callback = XpdmlCallback(CallbackPublisher(lambda name, doc: derived.append((name, doc))), store=store)
    for name, document in documents:
        callback(name, document)
    assert callback.close(timeout=60)
    statistics = callback.statistics
    assert statistics.errors == 0
    assert statistics.unpublished == 0
    assert statistics.runs == statistics.predicted + statistics.failed + statistics.ignored
    for name, start in derived:
        if name == "start":
            assert start["quality"]["verdict"] != "failed" or start["quality"]["reasons"]
        if name == "event":
            assert all(np.isfinite(np.array(values)).all() for values in start["data"].values())


@SETTINGS
@example(changes=[("field", 0.9, 0.2, {"primary": 10**400})])
@given(changes=CHANGES)
def test_spoiled_streams_with_a_dark_run_do_no_harm(powder, no_models, changes):
    check(no_models, changed([*powder.dark_run(), *powder.older()], changes))


@SETTINGS
@given(changes=CHANGES)
def test_spoiled_streams_with_calibration_and_mask_do_no_harm(powder, no_models, changes):
    check(no_models, changed(powder.streams(), changes))


def test_a_detector_of_the_run_engine_that_writes_files(run_engine, powder, no_models, tmp_path):
    detector = SynSignalWithRegistry(
        name="pe1_image", func=lambda: powder.image.astype(float), save_path=str(tmp_path)
    )
    derived = []
    publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
    with XpdmlCallback(publisher, store=no_models) as callback:
        token = run_engine.subscribe(callback)
        detector.stage()
        run_engine(count([detector], num=3), calibration_md=powder.calibration, composition_str="NiO")
        detector.unstage()
        run_engine.unsubscribe(token)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
    start = derived[0][1]
    assert start["analysis"]["settings"]["integration"]["n_frames"] == 3
    assert (start["element"], start["completeness"]) == ("Ni", 1.0)


def test_runs_stored_in_tiled_give_the_same_answer_and_their_dark(tiled_server, powder, no_models):
    from bluesky_tiled_plugins import TiledWriter

    raw = TiledPublisher.from_uri(tiled_server.uri, path="scattering/raw")
    light = powder.older(uid="light-of-nio", sc_dk_field_uid="dark-of-nio")
    for documents in (powder.dark_run("dark-of-nio"), light):
        writer = TiledWriter(raw.container, max_array_size=0)
        for name, document in documents:
            writer(name, copy.deepcopy(document))
    derived = TiledPublisher.from_uri(tiled_server.uri, path="scattering/derived")
    with XpdmlCallback(derived, store=no_models, fetch=StoredRuns(raw.container)) as callback:
        for name, document in run_documents(raw.container["light-of-nio"], "light-of-nio"):
            callback(name, document)
        assert callback.drain(timeout=60)
        (replayed,) = find_predictions(derived.container, "light-of-nio")
        for name, document in light:
            callback(name, document)
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
        assert (derived.n_written, derived.n_already_there) == (1, 1)
        assert replayed.metadata["start"]["analysis"]["settings"]["integration"]["dark"] == "1 frames"
        arrays = replayed["pdf"].read(["g_r"])
        assert np.isfinite(arrays["g_r"].values).sum() == 3001
    raw.close()


def test_live_rows_can_be_read_from_tiled_before_the_run_stops(tiled_server, powder, no_models):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="scattering/live")
    settings = ScatteringSettings(live=True, live_interval=0.0)
    documents = powder.streams()
    with XpdmlCallback(publisher, store=no_models, scattering=settings) as callback:
        for name, document in documents[:-1]:
            callback(name, document)
            assert callback.drain(timeout=60)
        (live,) = find_predictions(publisher.container, "raw")
        assert live.metadata["start"]["purpose"] == "xpdml.live"
        assert live["updates"].read()["completeness"].values.tolist() == [0.5, 1.0]
        callback(*documents[-1])
        assert callback.drain(timeout=60)
        assert callback.statistics.errors == 0
        found = find_predictions(publisher.container, "raw")
        assert [run.metadata["start"]["purpose"] for run in found] == ["xpdml.live", "xpdml"]
        assert "stop" in found[0].metadata


def resident():
    """Return the memory that this process takes [MB]."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_five_hundred_frames_take_the_memory_of_a_few(powder, no_models):
    """Send frames of four million pixels, each an array of its own, as fast as a detector gives them."""
    large = np.kron(powder.image, np.ones((16, 16), dtype=np.uint16))
    calibration = powder.calibration | {"pixel1": 1.3e-3 / 16, "pixel2": 1.3e-3 / 16}
    (first, *_, stop) = powder.older(calibration_md=calibration, num_points=500, sc_dk_field_uid=None)
    _, descriptor, event, _ = powder.run({"primary": [{"pe1_image": large[None]}]})
    delays, memory = [], []
    derived = []
    publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
    with XpdmlCallback(publisher, store=no_models) as callback:
        callback(*first)
        callback(*descriptor)
        for number in range(1, 501):
            image = large[None].copy()
            image[0, 0, 0] = number
            data = {"pe1_image": image}
            document = event[1] | {"uid": f"e{number}", "seq_num": number, "data": data}
            begun = time.perf_counter()
            callback("event", document)
            delays.append(time.perf_counter() - begun)
            del image, data, document
            time.sleep(0.03)
            if number in (50, 500):
                assert callback.drain(timeout=600)
                gc.collect()
                memory.append(resident())
        callback(stop[0], stop[1])
        assert callback.drain(timeout=600)
    start = derived[0][1]
    assert start["analysis"]["settings"]["integration"]["n_frames"] == 500
    logger.info(
        "memory %s MB, delays: median %.1f us, largest %.3f ms",
        memory,
        1e6 * np.median(delays),
        1e3 * max(delays),
    )
    assert memory[1] <= 1.05 * memory[0]
