"""Result files, as this and other programs read them."""

import re

import numpy as np
import pytest

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.records import PairDistribution, Quality, Sample, ScatteringPattern
from bluesky_xpdml.reduction.pdf import PdfSettings, reduce_pdf
from bluesky_xpdml.reduction.scattering_factors import mean_factors
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.sources.patterns import read_pattern, read_pdf
from bluesky_xpdml.sources.pdf_files import write_pdf, write_xanes
from bluesky_xpdml.vocabulary import Reason, ReasonCode


@pytest.fixture(scope="module")
def pdf():
    q = np.arange(0.5, 25.0, 0.02)
    factors = mean_factors("TiO2", q)
    intensity = factors.mean_square + factors.squared_mean * np.exp(-0.004 * q**2) * np.sin(2.0 * q) / q
    pattern = ScatteringPattern(
        q=q,
        intensity=intensity,
        variance=0.01 * intensity,
        sample=Sample(composition="TiO2"),
        source="tio2 scan.tif",
        raw_uids=("u-1",),
        settings={"calibration": {"distance": 0.2}},
        quality=Quality().note(Reason("first → remark", ReasonCode.NOISE)),
    )
    return reduce_pdf(pattern, PdfSettings(r_poly=0.9, q_max=22.0))


@pytest.fixture
def written(pdf, tmp_path):
    return {path.suffix: path for path in write_pdf(pdf, tmp_path / "new" / "folder", "tio2")}


def as_diffpy_reads(text):
    """Return header, settings and columns by the rules of diffpy's reader of PDFs."""
    start = re.search(r"^#+ start data\s*(?:#.*\s+)*", text, re.MULTILINE).end()
    header, body = text[:start], text[start:].strip()
    found = re.search(r"\bqmax *= *([-+]?(\d+(\.\d*)?|\d*\.\d+)([eE][-+]?\d+)?)\b", header, re.IGNORECASE)
    is_xray = re.search("(x-?ray|PDFgetX)", header, re.IGNORECASE) is not None
    return (
        float(found[1]),
        is_xray,
        np.array([[float(word) for word in line.split()] for line in body.split("\n")]),
    )


def test_diffpy_finds_q_max_and_the_uncertainties(pdf, written):
    q_max, is_xray, table = as_diffpy_reads(written[".gr"].read_text(encoding="ascii"))
    assert (q_max, is_xray) == (22.0, True)
    assert table.shape[1] == 4
    assert np.all(table[:, 3] > 0.0)
    assert table[:, 1] == pytest.approx(pdf.g[1:], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("suffix", "axis"), [(".gr", "#L r"), (".fq", "#L Q"), (".sq", "#L Q"), (".iq", "#L Q")]
)
def test_gsas_finds_the_line_before_the_numbers(written, suffix, axis):
    lines = written[suffix].read_text(encoding="ascii").splitlines()
    where = next(number for number, line in enumerate(lines) if axis in line[:4])
    assert all(len(line.split()) >= 2 and float(line.split()[0]) >= 0.0 for line in lines[where + 1 :])


def test_what_was_written_is_read_back(pdf, written):
    again = read_pdf(written[".gr"])
    assert again.r == pytest.approx(pdf.r[1:])
    assert again.g == pytest.approx(pdf.g[1:], rel=1e-6, abs=1e-8)
    assert again.g_variance == pytest.approx(pdf.g_variance[1:], rel=1e-5)
    assert again.composition == pytest.approx(pdf.composition)
    for name in ("q_min", "q_max", "q_max_inst", "r_poly", "background_scale", "r_step"):
        assert again.settings[name] == pytest.approx(pdf.settings[name], rel=1e-8)
    curve = read_pattern(written[".iq"])
    assert curve.q == pytest.approx(pdf.q)
    assert curve.intensity == pytest.approx(pdf.intensity, rel=1e-6)
    assert curve.variance == pytest.approx(pdf.intensity_variance, rel=1e-5)


def test_each_file_holds_its_curve(pdf, written):
    for suffix, values, variance in ((".fq", pdf.f, pdf.f_variance), (".sq", pdf.s, pdf.s_variance)):
        table = np.loadtxt(
            written[suffix], comments=["#", "["], usecols=(0, 1, 2), skiprows=_skipped(written[suffix])
        )
        assert table[:, 1] == pytest.approx(values, rel=1e-6, abs=1e-8)
        assert table[:, 2] == pytest.approx(np.sqrt(variance), rel=1e-6)


def _skipped(path):
    lines = path.read_text(encoding="ascii").splitlines()
    return next(number for number, line in enumerate(lines) if line.startswith("#L")) + 1


def test_the_header_states_every_setting(pdf, written):
    text = written[".fq"].read_text(encoding="ascii")
    for key in ("rpoly", "r_poly_from", "lorch", "scale", "raw_uids", "mode", "quality", "remark1"):
        assert f"\n{key} = " in text
    assert "u-1" in text
    assert "tio2 scan.tif" in text


def test_without_variances_and_curves_only_g_is_written(tmp_path):
    bare = PairDistribution(r=np.array([0.1, 0.2]), g=np.array([1.0, 2.0]), source="a.gr")
    (path,) = write_pdf(bare, tmp_path)
    assert path.name == "a.gr"
    assert read_pdf(path).g_variance is None
    with pytest.raises(MissingDataError, match="expected a name"):
        write_pdf(PairDistribution(r=bare.r, g=bare.g), tmp_path)


def test_a_spectrum_is_written_and_read_back(tmp_path):
    energy = np.arange(6950.0, 7400.0, 1.0)
    path = tmp_path / "iron.dat"
    path.write_text("# energy mu\n" + "\n".join(f"{e} {np.arctan((e - 7120) / 2)}" for e in energy))
    xanes = reduce_xanes(read_scan(path, element="Fe", edge="K"), XanesSettings(energy_offset=0.5))
    target = write_xanes(xanes, tmp_path)
    assert target.name == "iron.xanes"
    table = np.loadtxt(target, skiprows=_skipped(target))
    assert table[:, 0] == pytest.approx(xanes.energy)
    assert table[:, 2] == pytest.approx(xanes.norm, rel=1e-6, abs=1e-8)
    assert table[:, 3] == pytest.approx(xanes.flat, rel=1e-6, abs=1e-8)
    text = target.read_text(encoding="ascii")
    assert "element = Fe" in text
    assert "e0 = 7120.5" in text
