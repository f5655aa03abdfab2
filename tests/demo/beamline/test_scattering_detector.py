import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import (
    EMPTY,
    Illumination,
    ScatteringBeamline,
    ScatteringSample,
    Sensor,
    flat_panel,
)
from bluesky_xpdml.demo.beamline.detector import detector_geometry
from bluesky_xpdml.demo.beamline.scattering import Q_STEP, pattern
from bluesky_xpdml.demo.beamline.scattering import ScatteringBeamline as Assembled
from bluesky_xpdml.errors import BeamlineError

CLEAN = Sensor(dead=0.0, hot=0.0)


def exposed(beamline: Assembled, frames: int, state: str = "open", name: str = "LaFeO3") -> np.ndarray:
    beamline.changer.set(name)
    beamline.shutter.set(state)
    return np.array([beamline.detector.expose() for _ in range(frames)], dtype=float)


def test_photons_are_poisson_distributed_above_the_dark() -> None:
    beamline = ScatteringBeamline(seed=5, pixels=256, sensor=CLEAN)
    beamline.detector.exposure.set(0.5)
    light, dark = exposed(beamline, 40), exposed(beamline, 40, "closed")
    expected = 0.5 * beamline.detector.rate()
    excess = light.mean(axis=0) - dark.mean(axis=0)
    deviations = (excess - expected) / np.sqrt((light.var(axis=0) + dark.var(axis=0)) / 40.0)
    assert np.mean(deviations) == pytest.approx(0.0, abs=0.02)
    assert np.std(deviations) == pytest.approx(1.0, abs=0.05)
    lit = expected > 0.0
    # Read-out noise, the dark current of half a second, rounding, and the photons themselves.
    variance = CLEAN.noise**2 + 0.5 * CLEAN.dark + 1.0 / 12.0 + expected
    assert np.mean(light.var(axis=0, ddof=1)[lit] / variance[lit]) == pytest.approx(1.0, abs=0.01)


def test_dark_frames_show_offset_and_dark_current_alone() -> None:
    beamline = ScatteringBeamline(seed=5, pixels=128, sensor=CLEAN)
    beamline.detector.exposure.set(4.0)
    dark = exposed(beamline, 10, "closed")
    assert dark.mean() == pytest.approx(CLEAN.offset + 4.0 * CLEAN.dark, abs=0.3)
    assert dark.mean(axis=0).std() == pytest.approx(CLEAN.pattern, rel=0.1)


def test_beam_stop_hides_the_light_but_not_the_dark() -> None:
    beamline = ScatteringBeamline(seed=5, pixels=256, sensor=CLEAN)
    light, dark = exposed(beamline, 8).mean(axis=0), exposed(beamline, 8, "closed").mean(axis=0)
    shadow = beamline.detector.shadow
    assert 20 < shadow.sum() < 400
    assert (light - dark)[shadow].mean() == pytest.approx(0.0, abs=0.5)
    assert (light - dark)[~shadow].min() > 5.0


def test_dead_and_hot_pixels_are_in_the_mask() -> None:
    beamline = ScatteringBeamline(seed=5, pixels=256, sensor=Sensor(dead=1e-3, hot=1e-3))
    dark, light = exposed(beamline, 4, "closed").mean(axis=0), exposed(beamline, 4).mean(axis=0)
    hot = dark > 10_000.0
    dead = ((light - dark) < 3.0) & ~beamline.detector.shadow & ~hot
    assert 30 < hot.sum() < 110
    assert 30 < dead.sum() < 110
    assert beamline.detector.bad_pixels[hot | dead].all()
    assert beamline.detector.bad_pixels.sum() < hot.sum() + dead.sum() + beamline.detector.shadow.sum() + 5


def test_bright_pixels_saturate_and_do_not_wrap() -> None:
    beamline = ScatteringBeamline(seed=5, pixels=128, sensor=CLEAN)
    beamline.detector.exposure.set(1000.0)
    frame = exposed(beamline, 1)[0]
    bright = beamline.detector.rate() * 1000.0 > 70_000.0
    assert bright.any()
    assert np.all(frame[bright] == 65535)


def test_same_seed_gives_the_same_frames() -> None:
    first, again, other = (exposed(ScatteringBeamline(seed=s, pixels=64), 2) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, other)


def test_background_is_what_the_empty_capillary_shows() -> None:
    beamline = ScatteringBeamline(pixels=256)
    rates = {}
    for name in (EMPTY, "NaFeO2"):
        beamline.changer.set(name)
        rates[name] = beamline.detector.rate().copy()
    geometry, light = detector_geometry(beamline.detector.calibration), Illumination()
    q = Q_STEP * np.arange(1, 8000)
    sample = beamline.changer.samples["NaFeO2"]
    alone = np.interp(geometry.q, q, light.sample_rate(sample, q)) * geometry.response
    alone[beamline.detector.shadow] = 0.0
    assert np.allclose(rates["NaFeO2"] - rates[EMPTY], alone, rtol=1e-3, atol=0.05)
    lit = rates[EMPTY] > 0.0
    assert 0.02 < np.median(rates[EMPTY][lit] / rates["NaFeO2"][lit]) < 0.5


def test_rings_of_nickel_lie_where_pyfai_finds_them(nickel: ScatteringSample) -> None:
    from pyFAI.detectors import Detector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    place = flat_panel(pixels=1024)
    beamline = ScatteringBeamline(seed=2, calibration=place, samples=[nickel])
    light = exposed(beamline, 1, name="nickel")[0] - exposed(beamline, 4, "closed", "nickel").mean(axis=0)
    judge = AzimuthalIntegrator(
        dist=place.distance, poni1=place.poni1, poni2=place.poni2, rot1=place.rot1, rot2=place.rot2,
        rot3=place.rot3, detector=Detector(place.pixel1, place.pixel2, max_shape=place.shape),
        wavelength=place.wavelength,
    )  # fmt: skip
    q, intensity = judge.integrate1d(
        light,
        1500,
        unit="q_A^-1",
        mask=beamline.detector.bad_pixels,
        polarization_factor=0.99,
        method=("no", "csc", "cython"),
    )
    for squares in (3, 4, 8):
        line = 2.0 * np.pi / 3.524 * np.sqrt(squares)
        near = np.abs(q - line) < 0.1
        above = np.clip(intensity[near] - intensity[near].min(), 0.0, None)
        assert q[near] @ above / above.sum() == pytest.approx(line, abs=0.01)
    # Without polarisation and solid angle only the pattern is left, all the way to the corners.
    computed = pattern(Illumination(), nickel, 33.0)
    far = (q > 4.0) & (q < 30.0)
    expected = np.interp(q[far], Q_STEP * np.arange(1, computed.size + 1), computed)
    assert np.corrcoef(intensity[far], expected)[0, 1] > 0.99
    assert np.median(intensity[far] / expected) == pytest.approx(1.0, abs=0.01)


def test_what_the_beamline_does_not_have_is_refused() -> None:
    beamline = ScatteringBeamline(pixels=64)
    with pytest.raises(BeamlineError, match="no capillary 'gold'"):
        beamline.changer.set("gold")
    with pytest.raises(BeamlineError, match="'open' or 'closed'"):
        beamline.shutter.set("ajar")
    with pytest.raises(BeamlineError, match="expected one"):
        ScatteringBeamline(calibration=flat_panel(pixels=64, wavelength=0.2))
