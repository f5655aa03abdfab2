"""Structure to detector images to G(r), and back to the structure's own G(r).

Two curves are computed directly: `f(Q)` with form factors at every Q, what a perfect measurement gives, and
`f(0)` as the established calculator does. They differ by more than the measurement does from the first.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pytest

from bluesky_xpdml.analysis.memory import DarkFrames, FetchedRuns
from bluesky_xpdml.analysis.scattering import integrate
from bluesky_xpdml.demo.beamline import EMPTY, Dark, ScatteringBeamline, background_scan, scattering_scan
from bluesky_xpdml.documents import CollectedRun, read_run
from bluesky_xpdml.records import FloatArray, PairDistribution, ScatteringPattern, Verdict
from bluesky_xpdml.reduction.image import ImageSettings
from bluesky_xpdml.reduction.pdf import PdfSettings, reduce_pdf
from bluesky_xpdml.simulation.pair_distribution import Instrument

Documents = list[tuple[str, dict[str, Any]]]
Measure = Callable[[Any], Documents]
Collect = Callable[[Iterable[tuple[str, dict[str, Any]]]], list[CollectedRun]]

PIXELS, FRAMES = 1024, 4
NAMES = ("LaFeO3", "LaMnO3", "CaMnO3", "NaFeO2", "CdCrO4", "KLaZrVO6")
"""Perovskites and a layered oxide with clear first shells, and the most difficult of the samples."""
R_RANGE = (1.5, 20.0)


class Row(NamedTuple):
    name: str
    measured: PairDistribution
    exact: float
    """Correlation with the curve that has form factors at every Q."""
    usual: float
    """Correlation with the curve that has them at Q = 0."""
    limit: float
    """Correlation of the two computed curves."""


def no_dark_frames():
    return DarkFrames(FetchedRuns())


def pattern_of(runs: list[CollectedRun]) -> ScatteringPattern:
    (run,) = runs
    held = read_run(run).scattering
    return integrate(
        held,
        darks=no_dark_frames(),
        settings=ImageSettings(),
        calibration=None,
    )


def correlation(one: FloatArray, other: FloatArray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


@pytest.fixture(scope="module")
def table(documents_of: Measure, collected: Collect) -> list[Row]:
    beamline = ScatteringBeamline(seed=11, pixels=PIXELS)
    background = pattern_of(collected(documents_of(background_scan(beamline, frames=FRAMES))))
    rows = []
    for name in NAMES:
        sample = beamline.changer.samples[name]
        plan = scattering_scan(beamline, name, frames=FRAMES, background=EMPTY)
        measured = reduce_pdf(pattern_of(collected(documents_of(plan))), background=background)
        used = measured.settings
        instrument = Instrument(q_min=float(used["q_min"]), q_max=float(used["q_max"]), q_damp=0.03)  # type: ignore[arg-type]
        r, exact = sample.measurable_pair_distribution(r_max=R_RANGE[1], instrument=instrument)
        _, usual = sample.pair_distribution(r_max=R_RANGE[1], instrument=instrument)
        far = r >= R_RANGE[0]
        g = np.interp(r[far], measured.r, measured.g)
        rows.append(
            Row(
                name,
                measured,
                correlation(g, exact[far]),
                correlation(g, usual[far]),
                correlation(exact[far], usual[far]),
            )
        )
    return rows


def test_measured_curve_is_that_of_the_structure(table: list[Row]) -> None:
    assert min(row.exact for row in table) > 0.993
    assert np.median([row.exact for row in table]) > 0.997


def test_forward_scattering_is_what_separates_it_from_the_usual_calculation(table: list[Row]) -> None:
    for row in table:
        assert row.usual == pytest.approx(row.limit, abs=0.006), row.name
    assert sum(row.usual > 0.98 for row in table) >= 4
    assert min(row.usual for row in table) > 0.96


def test_automatic_settings_are_good(table: list[Row]) -> None:
    for row in table:
        assert row.measured.quality.verdict is Verdict.GOOD, row.measured.quality.reasons
        # The largest scale that leaves no negative intensity is an upper bound of the true one.
        assert 0.99 < float(row.measured.settings["background_scale"]) < 1.25  # type: ignore[arg-type]
        assert 20.0 < float(row.measured.settings["q_max"]) < 31.0  # type: ignore[arg-type]


def test_first_shell_is_found_at_its_distance(table: list[Row]) -> None:
    samples = ScatteringBeamline(pixels=64).changer.samples
    for name in NAMES[:5]:
        (row,) = (each for each in table if each.name == name)
        near = np.abs(row.measured.r - samples[name].bond_length) < 0.15
        top = row.measured.r[near][np.argmax(row.measured.g[near])]
        assert top == pytest.approx(samples[name].bond_length, abs=0.1), name


def test_dark_run_gives_what_a_dark_stream_gives(documents_of: Measure, collected: Collect) -> None:
    curves = []
    for dark in (Dark.STREAM, Dark.RUN):
        beamline, darks = (
            ScatteringBeamline(seed=12, pixels=512),
            no_dark_frames(),
        )
        runs = collected(documents_of(scattering_scan(beamline, "LaFeO3", frames=2, dark=dark)))
        if dark is Dark.RUN:
            darks.keep(runs[0].uid, runs[0].streams["primary"].images["pe1_image"])
        held = read_run(runs[-1]).scattering
        pattern = integrate(held, darks=darks, settings=ImageSettings(), calibration=None)
        curves.append(reduce_pdf(pattern, PdfSettings(q_max=22.0, r_max=20.0)))
    one, other = curves
    assert correlation(one.g[150:], other.g[150:]) > 0.9999
