"""Any pattern, and any image, is reduced or refused with a reason."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.features.pdf import pdf_features
from bluesky_xpdml.records import Calibration, ScatteringFrame, ScatteringPattern
from bluesky_xpdml.reduction.anomalous import AnomalousSettings, anomalous_difference
from bluesky_xpdml.reduction.image import ImageSettings, reduce_image
from bluesky_xpdml.reduction.pattern import merge_patterns
from bluesky_xpdml.reduction.pdf import PdfSettings, reduce_pdf
from bluesky_xpdml.vocabulary import Reason

DEFECTS = ["holes", "constant", "huge", "infinite", "zero", "negative", "reversed", "short"]


def spoiled(values, how, rng):
    """Return a column as broken detectors and wrong files deliver it."""
    values = values.copy()
    place = rng.integers(values.size)
    if how == "holes":
        values[rng.random(values.size) < 0.1] = np.nan
    elif how == "constant":
        values[:] = values[0]
    elif how == "huge":
        values[place] = 1e308
    elif how == "infinite":
        values[place] = np.inf
    elif how == "reversed":
        values = values[::-1].copy()
    elif how == "short":
        values = values[:-1]
    return values * {"zero": 0.0, "negative": -1.0}.get(how, 1.0)


@st.composite
def patterns(draw):
    """Return patterns that start and end anywhere, with any number of points and any noise."""
    start = draw(st.floats(-1.0, 5.0))
    length = draw(st.floats(0.1, 80.0))
    points = draw(st.one_of(st.integers(1, 60), st.integers(61, 2000)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q = np.linspace(start, start + length, points)
    if draw(st.booleans()):
        q = np.sort(rng.uniform(start, start + length, points))
    structure = 1.0 + 0.3 * np.sin(2.2 * q) * np.exp(-0.005 * q**2)
    noise = draw(st.sampled_from([0.0, 0.001, 0.1, 1.0]))
    intensity = draw(st.sampled_from([1.0, 1e5, 1e-30])) * np.exp(-0.1 * q) * structure
    intensity = intensity + noise * rng.normal(size=points)
    how = st.sampled_from(["none"] * 12 + DEFECTS)
    variance = spoiled(0.01 * np.abs(intensity), draw(how), rng) if draw(st.booleans()) else None
    return ScatteringPattern(
        q=spoiled(q, draw(how), rng),
        intensity=spoiled(intensity, draw(how), rng),
        variance=variance,
        wavelength=draw(st.sampled_from([None, 0.18, 0.18, 1.6, 0.0, math.nan])),
    )


LIMIT = st.sampled_from(["auto"] * 6 + [-1.0, 0.0, 0.5, 1.0, 10.0, 25.0, 1e9, math.nan])


@settings(max_examples=100, deadline=None)
@given(
    pattern=patterns(),
    background=st.none() | patterns(),
    scale=st.sampled_from(["fit", "fit", 0.0, 0.5, -1.0, 1e300, math.nan]),
    limits=st.fixed_dictionaries(dict.fromkeys(("q_min", "q_max", "q_max_inst", "r_poly"), LIMIT)),
    step=st.sampled_from([0.1, 0.1, 0.1, 0.0, 10.0, 1e-9]),
)
def test_any_pattern_is_reduced_or_refused(pattern, background, scale, limits, step):
    wanted = PdfSettings(composition="TiO2", background_scale=scale, r_step=step, **limits)
    try:
        pdf = reduce_pdf(pattern, wanted, background=background)
    except XpdmlError:
        return
    assert all(np.isfinite(curve).all() for curve in (pdf.g, pdf.f, pdf.s))
    assert pdf.g_variance is None or (pdf.g_variance >= 0.0).all()
    assert all(isinstance(reason, Reason) for reason in pdf.quality.reasons)
    try:
        assert np.isfinite(pdf_features(pdf.r, pdf.g)).all()
    except XpdmlError:
        return


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(patterns(), max_size=3), scale=st.sampled_from(["overlap", "none"]))
def test_any_patterns_are_merged_or_refused(parts, scale):
    try:
        merged = merge_patterns(parts, scale)
    except XpdmlError:
        return
    assert np.isfinite(merged.intensity).all()
    assert (np.diff(merged.q) > 0.0).all()


@settings(max_examples=50, deadline=None)
@given(far=patterns(), near=patterns(), q_max=st.sampled_from([2.0, 6.0, math.nan]))
def test_any_two_patterns_have_a_difference_or_are_refused(far, near, q_max):
    try:
        pdf = anomalous_difference(
            far, near, composition="NiO", element="Ni", settings=AnomalousSettings(q_max=q_max)
        )
    except XpdmlError:
        return
    assert np.isfinite(pdf.g).all()


@st.composite
def images(draw):
    """Return images of any size, type and brightness."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    kind = draw(st.sampled_from(["uint16", "int32", "float32", "float64", "bool", "complex64"]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return rng.poisson(draw(st.sampled_from([0, 1, 100, 60000])), shape).astype(kind)


@settings(max_examples=40, deadline=None)
@given(
    image=images(),
    masked=st.floats(0.0, 1.0),
    distance=st.sampled_from([0.2, 0.2, 1e-3, 1e-9]),
    border=st.sampled_from([0, 0, 3, 100, -1]),
)
def test_any_image_is_integrated_or_refused(image, masked, distance, border):
    calibration = Calibration(
        distance=distance,
        poni1=1e-3,
        poni2=1e-3,
        rot1=0.0,
        rot2=0.0,
        rot3=0.0,
        wavelength=1.8e-11,
        pixel1=2e-4,
        pixel2=2e-4,
    )
    frame = ScatteringFrame(image=image, calibration=calibration)
    mask = np.random.default_rng(1).random(image.shape) < masked
    try:
        pattern = reduce_image(frame, ImageSettings(border=border), mask=mask)
    except XpdmlError:
        return
    assert np.isfinite(pattern.intensity).all()
    assert (pattern.variance >= 0.0).all()
