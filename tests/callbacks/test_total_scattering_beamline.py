"""The simulated beamline measures, the callback answers: every format of images, every place of darks."""

import numpy as np
import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback
from bluesky_xpdml.demo.beamline.image_files import ImageFormat
from bluesky_xpdml.demo.beamline.scattering import ScatteringBeamline
from bluesky_xpdml.demo.beamline.scattering_plans import Dark, background_scan, scattering_scan

PIXELS = 256


@pytest.fixture
def measured(run_engine, tmp_path):
    """Return a function that runs plans on a RunEngine with a callback and returns the derived runs."""

    def measure(*plans, store=None):
        derived = []
        publisher = CallbackPublisher(lambda name, document: derived.append((name, document)))
        with XpdmlCallback(publisher, store=store or BundleStore(tmp_path / "no-models")) as callback:
            token = run_engine.subscribe(callback)
            try:
                for plan in plans:
                    run_engine(plan)
            finally:
                run_engine.unsubscribe(token)
            assert callback.drain(timeout=120)
        assert callback.statistics.errors == 0
        starts = [document for name, document in derived if name == "start"]
        curves = [np.array(d["data"]["g_r"]) for n, d in derived if n == "event" and "g_r" in d["data"]]
        return starts, curves

    return measure


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_every_format_of_images_gives_the_same_distribution(measured, tmp_path, image_format):
    curves = []
    for each in (ImageFormat.EVENT, image_format):
        folder = tmp_path / str(each)
        folder.mkdir(exist_ok=True)
        beamline = ScatteringBeamline(seed=3, pixels=PIXELS, image_format=each, folder=folder)
        starts, (curve,) = measured(scattering_scan(beamline, "LaFeO3", frames=2))
        integration = starts[0]["analysis"]["settings"]["integration"]
        assert (starts[0]["element"], starts[0]["completeness"]) == ("Fe", 1.0)
        assert (integration["n_frames"], integration["dark"]) == (2, "8 frames")
        curves.append(curve)
    np.testing.assert_allclose(curves[1], curves[0], atol=1e-4 * np.abs(curves[0]).max())


@pytest.mark.parametrize("dark", list(Dark))
def test_dark_frames_are_found_wherever_they_are(measured, dark):
    beamline = ScatteringBeamline(seed=3, pixels=PIXELS)
    (start,), _ = measured(scattering_scan(beamline, "LaFeO3", dark=dark))
    said = "; ".join(start["quality"]["reasons"])
    found = start["analysis"]["settings"]["integration"]["dark"]
    assert found == ("none" if dark is Dark.NONE else "8 frames")
    assert ("no dark was subtracted" in said) is (dark is Dark.NONE)


def test_the_background_that_a_run_names_is_subtracted(measured):
    beamline = ScatteringBeamline(seed=3, pixels=PIXELS)
    empty = next(d for d in measured(background_scan(beamline))[0])["sample"]["name"]
    starts, _ = measured(
        background_scan(beamline), scattering_scan(beamline, "LaFeO3", background=empty, frames=2)
    )
    assert len(starts[-1]["raw_uids"]) == 2
    assert "was not seen" not in "; ".join(starts[-1]["quality"]["reasons"])


def test_a_measured_sample_is_answered_by_the_models_that_the_package_brings(measured):
    store = BundleStore.default()
    if not any(name.startswith("Fe-pdf-") for name in store.names()):
        pytest.skip("the package brings no pdf model for Fe")
    beamline = ScatteringBeamline(seed=3, pixels=512)
    (start,), _ = measured(scattering_scan(beamline, "LaFeO3", frames=2), store=store)
    assert start["quality"]["verdict"] in ("good", "suspect")
    assert start["models"][0]["name"] == "Fe-pdf"
    state = start["descriptors"]["oxidation_state"]
    assert state["low"] <= state["value"] <= state["high"]
