"""Images to I(Q): nothing is clipped or made up, and rings are found at their positions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import Calibration, Sample, ScatteringFrame, Verdict
from bluesky_xpdml.reduction.image import (
    ImageSettings,
    as_mask,
    average_frames,
    border_mask,
    combine_masks,
    find_faults,
    reduce_image,
    subtract_dark,
)

SHAPE = (256, 240)
CALIBRATION = Calibration(
    distance=0.2,
    poni1=0.03,
    poni2=0.02,
    rot1=0.02,
    rot2=-0.01,
    rot3=0.0,
    wavelength=1.8e-11,
    pixel1=8e-4,
    pixel2=8e-4,
    shape=SHAPE,
)
PLAIN = ImageSettings(polarization=None, solid_angle=False)
RINGS = (3.1, 5.07, 9.3, 14.2)


def momentum():
    """Return Q of every pixel [1/angstrom], from the geometry and nothing else."""
    y, x = np.indices(SHAPE)
    p1 = (y + 0.5) * CALIBRATION.pixel1 - CALIBRATION.poni1
    p2 = (x + 0.5) * CALIBRATION.pixel2 - CALIBRATION.poni2
    cos1, sin1 = np.cos(CALIBRATION.rot1), np.sin(CALIBRATION.rot1)
    cos2, sin2 = np.cos(CALIBRATION.rot2), np.sin(CALIBRATION.rot2)
    distance = CALIBRATION.distance
    t1 = p1 * cos2 + p2 * sin1 * sin2 - distance * cos1 * sin2
    t2 = p2 * cos1 + distance * sin1
    t3 = p1 * sin2 - p2 * sin1 * cos2 + distance * cos1 * cos2
    two_theta = np.arctan2(np.hypot(t1, t2), t3)
    return 4.0 * np.pi * np.sin(0.5 * two_theta) / (CALIBRATION.wavelength * 1e10)


def curve(q):
    """Return an intensity with rings at known places."""
    return 200.0 / (1.0 + 0.1 * q) + sum(1500.0 * np.exp(-0.5 * ((q - ring) / 0.15) ** 2) for ring in RINGS)


def frame(image, **changes):
    return replace(ScatteringFrame(image=image, calibration=CALIBRATION), **changes)


def test_rings_are_found_at_their_simulated_positions():
    pattern = reduce_image(frame(curve(momentum())), PLAIN)
    # Bins are as wide as pixels, and rings are steep.
    assert pattern.intensity == pytest.approx(curve(pattern.q), rel=0.12)
    for ring in RINGS:
        near = np.abs(pattern.q - ring) < 0.4
        excess = pattern.intensity[near] - 200.0 / (1.0 + 0.1 * ring)
        assert np.sum(pattern.q[near] * excess) / np.sum(excess) == pytest.approx(ring, abs=0.02)
    assert pattern.wavelength == pytest.approx(0.18)


def test_counting_noise_agrees_with_the_variance():
    rng = np.random.default_rng(7)
    truth = curve(momentum())
    reference = reduce_image(frame(truth), PLAIN)
    pulls = []
    for _ in range(10):
        image = rng.poisson(truth + 40.0).astype(np.uint16)
        dark = rng.poisson(40.0, size=(9, *SHAPE)).mean(axis=0)
        pattern = reduce_image(frame(image, dark=dark, n_dark=9), PLAIN)
        pulls.append((pattern.intensity - reference.intensity) / np.sqrt(pattern.variance))
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.1)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.1)


def test_polarisation_and_solid_angle_are_corrected():
    pattern = reduce_image(frame(np.full(SHAPE, 100.0)), PLAIN)
    wider = reduce_image(frame(np.full(SHAPE, 100.0)), ImageSettings(polarization=None))
    both = reduce_image(frame(np.full(SHAPE, 100.0)), ImageSettings())
    assert pattern.intensity == pytest.approx(100.0)
    assert wider.intensity[-1] > 1.3 * wider.intensity[0]
    assert both.intensity[-1] != pytest.approx(wider.intensity[-1], rel=0.01)
    assert both.settings["polarization"] == 0.99


@given(
    image=arrays(np.uint16, (4, 5), elements=st.integers(0, 65535)),
    dark=arrays(float, (4, 5), elements=st.floats(0.0, 1e5)),
)
def test_dark_subtraction_never_clips(image, dark):
    signal = subtract_dark(ScatteringFrame(image=image, dark=dark))
    assert signal.counts == pytest.approx(image.astype(float) - dark, rel=1e-5, abs=0.02)
    assert np.all(signal.variance >= 0.0)


@given(n_frames=st.integers(1, 1000), photon=st.floats(0.1, 100.0))
def test_the_variance_of_an_average_falls_with_its_frames(n_frames, photon):
    image = np.full((3, 3), 80.0)
    one = subtract_dark(ScatteringFrame(image=image), counts_per_photon=photon)
    many = subtract_dark(ScatteringFrame(image=image, n_frames=n_frames), counts_per_photon=photon)
    assert many.variance == pytest.approx(one.variance / n_frames, rel=1e-5)
    assert one.variance == pytest.approx(80.0 * photon, rel=1e-5)


@settings(deadline=None, max_examples=10)
@given(factor=st.floats(0.5, 20.0))
def test_a_pattern_is_linear_in_the_image(factor):
    image = curve(momentum())
    once, more = reduce_image(frame(image), PLAIN), reduce_image(frame(factor * image), PLAIN)
    assert more.intensity == pytest.approx(factor * once.intensity, rel=1e-5)
    assert more.variance == pytest.approx(factor * once.variance, rel=1e-5)


def test_measured_dark_noise_wins_over_counting_statistics():
    image, dark = np.full((3, 3), 5100.0), np.full((3, 3), 5000.0)
    assumed = subtract_dark(ScatteringFrame(image=image, dark=dark, n_dark=5))
    known = subtract_dark(
        ScatteringFrame(image=image, dark=dark, n_dark=5, dark_variance=np.full((3, 3), 9.0))
    )
    assert assumed.variance == pytest.approx(5100.0 + 1000.0)
    assert known.variance == pytest.approx(100.0 + 9.0 * 1.2)


def test_frames_are_averaged_in_floating_point():
    stack = np.full((70, 4, 4), 65535, dtype=np.uint16)
    mean, variance, n = average_frames(stack)
    assert (mean.max(), variance.max(), n) == (65535.0, 0.0, 70)
    assert average_frames(stack[:2])[1] is None
    assert average_frames(stack.reshape(7, 10, 4, 4))[2] == 70


@pytest.mark.parametrize("frames", [np.zeros(3), np.zeros((0, 4, 4)), np.zeros((2, 2), dtype=complex)])
def test_what_are_no_frames_is_refused(frames):
    with pytest.raises(ReductionError, match="expected images"):
        average_frames(frames)


@given(arrays(bool, (3, 4)))
def test_one_sense_of_masks(bad):
    for said in (bad, bad.astype(np.uint8), 255 * bad.astype(np.int64), bad.astype(float)):
        assert np.array_equal(as_mask(said, (3, 4)), bad)
    assert np.array_equal(as_mask(~bad, (3, 4), bad=False), bad)
    assert np.array_equal(as_mask((~bad).astype(int), (3, 4), bad=False), bad)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 2)), "the mask has the shape"),
        (np.arange(12).reshape(3, 4), "is this an image"),
        (np.full((3, 4), np.nan), "booleans"),
        (np.full((3, 4), "x"), "booleans"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ReductionError, match=message):
        as_mask(mask, (3, 4))


def test_masked_pixels_do_not_count_whoever_masked_them():
    image = curve(momentum())
    spoilt = image.copy()
    spoilt[40:80, 100:140] = 30000.0
    bad = np.zeros(SHAPE, dtype=bool)
    bad[40:80, 100:140] = True
    clean = reduce_image(frame(image), PLAIN)
    by_frame = reduce_image(frame(spoilt, mask=bad), PLAIN)
    by_user = reduce_image(frame(spoilt), PLAIN, mask=bad.astype(np.uint8))
    assert np.interp(clean.q, by_frame.q, by_frame.intensity) == pytest.approx(clean.intensity, rel=0.05)
    assert np.array_equal(by_frame.intensity, by_user.intensity)
    assert by_frame.settings["masked"] == pytest.approx(bad.mean())
    with pytest.raises(ReductionError, match=r"97% of the pixels are masked.*True is bad"):
        reduce_image(frame(spoilt), PLAIN, mask=~bad)


def test_hot_and_dead_pixels_are_found_and_counted():
    rng = np.random.default_rng(2)
    image = rng.poisson(curve(momentum())).astype(np.uint16)
    bright = np.unravel_index(np.argmin(np.abs(momentum() - RINGS[1])), SHAPE)
    image[50, 60], image[bright], image[100, 100] = 60000, 0, 65535
    pattern = reduce_image(frame(image), PLAIN)
    assert (pattern.settings["hot"], pattern.settings["dead"], pattern.settings["saturated"]) == (2, 1, 1)
    assert pattern.intensity == pytest.approx(curve(pattern.q), rel=0.12)
    kept = reduce_image(frame(image), replace(PLAIN, find_bad_pixels=False))
    assert (kept.settings["hot"], kept.settings["saturated"]) == (0, 1)


def test_sharp_rings_and_spots_are_no_faults():
    q = momentum()
    image = 50.0 + 5000.0 * np.exp(-0.5 * ((q - 6.0) / 0.12) ** 2)
    y, x = np.indices(SHAPE)
    image += 20000.0 * np.exp(-0.5 * ((x - 120) ** 2 + (y - 200) ** 2) / 1.0)
    faults = find_faults(image, image, saturation=None)
    assert (faults.hot, faults.dead) == (0, 0)


def test_gaps_and_undefined_pixels_are_left_out():
    image = curve(momentum()).astype(np.int32)
    image[100:110] = -2
    gaps = reduce_image(frame(image), PLAIN)
    assert gaps.settings["undefined"] == 10 * SHAPE[1]
    image = curve(momentum())
    image[3, 3], image[4, 4] = np.nan, np.inf
    undefined = reduce_image(frame(image), PLAIN)
    assert undefined.settings["undefined"] == 2
    assert np.all(np.isfinite(undefined.intensity))
    assert np.all(gaps.intensity > 0.0)


def test_many_saturated_pixels_are_suspect():
    image = np.minimum(curve(momentum()), 400.0).astype(np.uint16)
    pattern = reduce_image(frame(image), replace(PLAIN, saturation=400))
    assert pattern.quality.verdict is Verdict.SUSPECT
    assert "saturated" in pattern.quality.reasons[-1]


def test_a_missing_dark_is_reported():
    without = reduce_image(frame(np.full(SHAPE, 9.0)), PLAIN)
    with_dark = reduce_image(frame(np.full(SHAPE, 9.0), dark=np.ones(SHAPE)), PLAIN)
    assert "no dark frame: nothing was subtracted" in without.quality.reasons
    assert (without.settings["dark"], with_dark.settings["dark"]) == ("none", "1 frames")
    assert with_dark.quality.reasons == ()
    assert with_dark.intensity == pytest.approx(8.0)


def test_border_and_beam_stop_are_left_out():
    pattern = reduce_image(frame(curve(momentum())), replace(PLAIN, border=10, beam_stop=2.0, n_points=100))
    assert pattern.q[0] >= 2.0
    assert pattern.q.size < 100
    assert pattern.settings["masked"] == pytest.approx(border_mask(SHAPE, 10).mean())


def test_what_the_frame_knew_is_carried_on():
    known = {"sample": Sample(composition="Ni"), "raw_uids": ("u",), "source": "a.tif", "completeness": 0.5}
    pattern = reduce_image(frame(np.ones(SHAPE), **known), PLAIN)
    assert {name: getattr(pattern, name) for name in known} == known
    assert pattern.settings["calibration"]["distance"] == 0.2


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        ({"calibration": None}, PLAIN, r"no calibration.*calibration_md.*\.poni"),
        ({"image": np.ones((10, 10))}, PLAIN, "same binning"),
        ({"dark": np.ones((10, 10))}, PLAIN, "dark frame has the shape"),
        (
            {"image": np.ones((2, *SHAPE)), "calibration": replace(CALIBRATION, shape=None)},
            PLAIN,
            "average_frames",
        ),
        ({"mask": np.ones(SHAPE, dtype=bool)}, PLAIN, "100% of the pixels are masked.*True is bad"),
        ({"mask": np.ones((3, 3), dtype=bool)}, PLAIN, "the mask has the shape"),
        ({"image": np.full(SHAPE, np.nan)}, PLAIN, "masked"),
        ({"n_frames": 0}, PLAIN, "at least one frame"),
        ({}, replace(PLAIN, polarization=3.0), "polarisation"),
        ({}, replace(PLAIN, n_points=3), "bins in Q"),
        ({}, replace(PLAIN, border=-1), "not negative"),
        ({}, replace(PLAIN, beam_stop=1e3), "only 0 bins"),
        ({}, replace(PLAIN, counts_per_photon=0.0), "counts per photon"),
    ],
)
def test_what_cannot_be_integrated_is_refused_with_a_reason(changes, how, message):
    with pytest.raises(ReductionError, match=message):
        reduce_image(frame(**({"image": np.ones(SHAPE)} | changes)), how)


def test_masks_combine_to_their_union():
    assert combine_masks(None, None) is None
    with pytest.raises(ReductionError, match="cannot be combined"):
        combine_masks(np.zeros((2, 2), dtype=bool), np.zeros((3, 3), dtype=bool))


@pytest.mark.parametrize("row", [1, 63, 64, 65, 66, 128, 254])
def test_faults_are_found_in_every_row(row):
    image = np.full(SHAPE, 1000.0)
    image[row, 7], image[row, 50] = 1e5, 0.0
    faults = find_faults(image, image, saturation=None)
    assert (faults.hot, faults.dead) == (1, 1)
    assert faults.mask[row, 7]
    assert faults.mask[row, 50]


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (5, 2), (3, 3)])
def test_tiny_images_have_no_neighbours_to_compare(shape):
    assert find_faults(np.ones(shape), np.ones(shape), saturation=None).hot == 0
