"""Published patterns reduce to the published G(r), whoever computed those."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.reduction.pdf import PdfSettings, coordination_number, reduce_pdf
from bluesky_xpdml.sources.patterns import read_pattern, read_pdf

FOLDER = "experiment/total_scattering"
COMPARED = (1.2, 15.0)
NICKEL, KAPTON, ZR_KAPTON = "ni/Ni.chi", "ni/kapton.chi", "zr_phosphates/kapton_background.chi"
ONE, TWO = "zr_phosphates/H-Zr_1-0_PP.chi", "zr_phosphates/H-Zr_2-1_PP.chi"
WITH_TERBIUM = "zr_phosphates/H-Zr__2-1_PP_withTb.chi"
PUBLISHED = {
    "ni/Ni.gr": (NICKEL, KAPTON),
    "ni/Ni-hires.gr": (NICKEL, KAPTON),
    "ni/Ni-lownoise.gr": (NICKEL, KAPTON),
    "zr_phosphates/aZrP.gr": ("zr_phosphates/aZrP.chi", ZR_KAPTON),
    "zr_phosphates/H-Zr_1-0_PP_includeFirstPeak.gr": (ONE, ZR_KAPTON),
    "zr_phosphates/H-Zr_1-0_PP_cutFirstPeak.gr": (ONE, ZR_KAPTON),
    "zr_phosphates/H-Zr_2-1_PP_includeFirstPeak.gr": (TWO, ZR_KAPTON),
    "zr_phosphates/H-Zr_2-1_PP_cutFirstPeak.gr": (TWO, ZR_KAPTON),
    # The header of this one has sample and background exchanged.
    "zr_phosphates/H-Zr_2-1_PP_TbDifferencePDF.gr": (WITH_TERBIUM, TWO),
}


def read(folder, name):
    """Return a pattern of the set; those of nickel do not say their unit."""
    return read_pattern(folder / name, q_unit="1/A" if name.startswith("ni/") else None)


def as_published(pdf):
    """Return the settings that the header of a published G(r) states."""
    names = ("q_min", "q_max", "q_max_inst", "r_poly", "background_scale")
    return PdfSettings(composition=pdf.sample.composition, **{name: pdf.settings[name] for name in names})


def agreement(pdf, published):
    """Return Rw after one scale factor, and that factor."""
    inside = (published.r >= COMPARED[0]) & (published.r <= COMPARED[1])
    target, ours = published.g[inside], np.interp(published.r[inside], pdf.r, pdf.g)
    factor = float(ours @ target / (ours @ ours))
    return float(np.sqrt(np.sum((target - factor * ours) ** 2) / np.sum(target**2))), factor


def reduce_like(folder, name):
    published = read_pdf(folder / name)
    raw, background = (read(folder, each) for each in PUBLISHED[name])
    return reduce_pdf(raw, as_published(published), background=background), published


def test_every_published_curve_is_reproduced(shared_data):
    folder = shared_data / FOLDER
    rows = {name: agreement(*reduce_like(folder, name)) for name in PUBLISHED}
    for name, (rw, factor) in rows.items():
        print(f"{name:50s} Rw {rw:.5f}   scale {factor:.3f}")  # noqa: T201
    values = np.array([rw for rw, _ in rows.values()])
    print(f"{'median':50s} Rw {np.median(values):.5f}   largest {values.max():.5f}")  # noqa: T201
    assert np.median(values) <= 0.006
    assert values.max() <= 0.015


def test_the_header_with_exchanged_files_is_refused_as_written(shared_data):
    folder = shared_data / FOLDER
    settings = as_published(read_pdf(folder / "zr_phosphates/H-Zr_2-1_PP_TbDifferencePDF.gr"))
    with pytest.raises(ReductionError, match=r"no intensity is left.*background scale is too large"):
        reduce_pdf(read(folder, TWO), settings, background=read(folder, WITH_TERBIUM))


def test_one_more_degree_of_the_polynomial_is_seen(shared_data):
    folder = shared_data / FOLDER
    published = read_pdf(folder / "ni/Ni.gr")
    stated = as_published(published)
    more = replace(stated, r_poly=stated.r_poly + np.pi / stated.q_max_inst)
    backgrounds = read(folder, KAPTON)
    right, wrong = (reduce_pdf(read(folder, NICKEL), each, background=backgrounds) for each in (stated, more))
    assert agreement(wrong, published)[0] > 5.0 * agreement(right, published)[0]


@pytest.mark.parametrize(
    ("name", "background", "composition", "scale"),
    [(NICKEL, KAPTON, "Ni", 0.4), ("zr_phosphates/aZrP.chi", ZR_KAPTON, "Zr(HPO4)2.H2O", 1.0)],
)
def test_what_is_chosen_is_near_what_people_chose(shared_data, name, background, composition, scale):
    folder = shared_data / FOLDER
    settings = PdfSettings(composition=composition)
    pdf = reduce_pdf(read(folder, name), settings, background=read(folder, background))
    assert pdf.settings["background_scale"] == pytest.approx(scale, rel=0.05)
    assert 16.0 <= pdf.settings["q_max"] <= 29.0
    assert 0.9 <= pdf.settings["r_poly"] <= 1.4
    assert "angstrom" in pdf.settings["r_poly_from"]
    assert "grows again" in pdf.settings["q_max_from"] or "noise" in pdf.settings["q_max_from"]
    assert pdf.quality.verdict is Verdict.GOOD


def test_the_first_shell_of_nickel_holds_twelve_within_its_uncertainty(shared_data):
    folder = shared_data / FOLDER
    for scale in (0.0, 0.4, 0.7, 1.0):
        settings = PdfSettings(composition="Ni", background_scale=scale)
        pdf = reduce_pdf(read(folder, NICKEL), settings, background=read(folder, KAPTON))
        number = coordination_number(pdf, (1.95, 3.0), 4 / 3.524**3)
        assert number.low < 12.0 < number.high
        assert 0.2 < (number.high - number.low) / number.value < 1.0


def test_published_uncertainties_reach_g(shared_data):
    folder = shared_data / FOLDER
    settings = PdfSettings(composition="Ni", q_max=24.0, r_poly=0.9, background_scale=0.4)
    pdf = reduce_pdf(read(folder, NICKEL), settings, background=read(folder, KAPTON))
    sigma = np.sqrt(pdf.g_variance[1:])
    assert np.all(sigma > 0.0)
    assert 1e-4 < np.median(sigma) / pdf.g.max() < 0.05
