"""Text files of scattering: units are stated, not guessed; damaged files are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError, ReductionError, XpdmlError
from bluesky_xpdml.reduction.pattern import QUnit
from bluesky_xpdml.sources.patterns import read_pattern, read_pdf

Q = np.arange(0.5, 20.0, 0.1)


def axis_of(q, unit, wavelength):
    """Convert Q [1/angstrom] to an axis, by Bragg's law."""
    angle = 2.0 * np.arcsin(q * wavelength / (4.0 * np.pi))
    return {"1/A": q, "1/nm": 10.0 * q, "2th_rad": angle, "2th_deg": np.degrees(angle)}[unit]


def rows(axis, *columns, fmt="%.9g"):
    return "\n".join(" ".join(fmt % value for value in row) for row in zip(axis, *columns, strict=True))


def write(tmp_path, text, name="sample.chi"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("Q (Inverse Nanometres)\nIntensity", "1/nm"),
        ("# q_nm^-1 I sigma", "1/nm"),
        ("# --> q (nm^-1)", "1/nm"),
        ("#   q_A^-1          I", "1/A"),
        ("#L Q(A^-1)  I", "1/A"),
        ("# Q($\\AA^{-1}$) I", "1/A"),
        ("Q (Inverse Angstroms)\nIntensity", "1/A"),
        ("# dataformat = QA", "1/A"),
        ("dataformat = Qnm", "1/nm"),
        ("# dataformat = twotheta\n# wavelength = 0.7093", "2th_deg"),
        ("2-Theta Angle (Degrees)\nIntensity\n# wavelength = 0.7093", "2th_deg"),
        ("# 2th_deg I\n# Wavelength: 0.7093", "2th_deg"),
        ("# 2th_rad I\n# wavelength = 0.7093", "2th_rad"),
    ],
)
def test_the_unit_is_read_from_the_header(tmp_path, header, unit):
    q = Q[Q < 15.0]
    text = header + "\n" + rows(axis_of(q, unit, 0.7093), 2.0 + np.cos(q))
    pattern = read_pattern(write(tmp_path, text))
    assert pattern.q == pytest.approx(q, rel=1e-6)
    assert pattern.settings["axis_unit"] == unit
    assert pattern.wavelength == (0.7093 if "th" in unit else None)


def test_a_unit_that_is_not_stated_is_not_guessed(tmp_path):
    path = write(tmp_path, "# sample 7\n" + rows(Q, Q))
    with pytest.raises(MissingDataError, match=r"sample\.chi: the header does not say.*--q-unit: 1/A, 1/nm"):
        read_pattern(path)
    assert read_pattern(path, q_unit="1/A").q == pytest.approx(Q)


def test_a_header_with_two_units_is_refused(tmp_path):
    path = write(tmp_path, "# q_nm^-1 or q_A^-1\n" + rows(Q, Q))
    with pytest.raises(MissingDataError, match="names several units"):
        read_pattern(path)


def test_options_of_the_caller_override_the_header(tmp_path):
    path = write(tmp_path, "# q_nm^-1\ncomposition = TiO2\n" + rows(Q, Q))
    pattern = read_pattern(path, q_unit=QUnit.PER_ANGSTROM, composition="Ni", wavelength=0.2)
    assert (pattern.q[0], pattern.sample.composition, pattern.wavelength) == (0.5, "Ni", 0.2)
    assert read_pattern(path).sample.composition == "TiO2"


def test_a_unit_that_gives_impossible_q_is_refused(tmp_path):
    path = write(tmp_path, "# dataformat = QA\n" + rows(10.0 * Q, Q))
    with pytest.raises(FileFormatError, match=r"199.*farther than any X-ray pattern.*--q-unit"):
        read_pattern(path)


def test_angles_need_a_wavelength(tmp_path):
    path = write(tmp_path, "# 2th_deg I\n" + rows(Q, Q))
    with pytest.raises(ReductionError, match="needs the wavelength"):
        read_pattern(path)
    assert read_pattern(path, wavelength=0.5).wavelength == 0.5


def test_a_third_column_is_the_uncertainty(tmp_path):
    header = "# q_A^-1 I sigma\n"
    pattern = read_pattern(write(tmp_path, header + rows(Q, Q, 0.1 * Q)))
    assert pattern.variance == pytest.approx((0.1 * Q) ** 2)
    for useless in (0.0 * Q, -Q):
        assert read_pattern(write(tmp_path, header + rows(Q, Q, useless))).variance is None


def test_a_descending_axis_is_reversed(tmp_path):
    pattern = read_pattern(write(tmp_path, "# q_A^-1 I\n" + rows(Q[::-1], Q[::-1])))
    assert pattern.q == pytest.approx(Q)
    assert pattern.intensity == pytest.approx(Q)


def test_the_header_of_fit2d_is_not_data(tmp_path):
    text = f"a.tif\nQ (Inverse Nanometres)\nIntensity\n       {Q.size}\n" + rows(Q, Q)
    assert read_pattern(write(tmp_path, text)).q.size == Q.size
    text = f"a.tif\nQ (Inverse Nanometres)\nIntensity\n  {Q.size}   1\n" + rows(Q, Q)
    assert read_pattern(write(tmp_path, text)).q.size == Q.size


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", FileFormatError, "empty"),
        ("# q_A^-1\nnothing here\n", FileFormatError, "expected a table"),
        ("# q_A^-1\n1 2\n2 3 4\n", FileFormatError, "line 3"),
        ("# q_A^-1\n1 2\n2 x\n", FileFormatError, "line 3"),
        ("# q_A^-1\n1 2\n3 3\n2 4\n", FileFormatError, "line 4: expected an ascending axis, found 2 after 3"),
        ("# q_A^-1\n1 2\n1 3\n", FileFormatError, "ascending"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path, text, error, message):
    with pytest.raises(error, match=rf"sample\.chi.*{message}"):
        read_pattern(write(tmp_path, text))


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(MissingDataError, match="cannot be opened"):
        read_pattern(tmp_path / "none.chi")


def test_an_unknown_unit_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="expected one of"):
        read_pattern(write(tmp_path, rows(Q, Q)), q_unit="miles")


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="0123456789.eE+-# qA^\n\tn", max_size=200))
def test_any_text_is_a_pattern_or_a_reason(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "any.chi"
    path.write_text(text, encoding="utf-8")
    try:
        pattern = read_pattern(path, q_unit="1/A")
    except XpdmlError:
        return
    assert np.all(np.diff(pattern.q) > 0.0)


def test_every_file_of_the_development_data_is_read_or_refused(shared_data, unread):
    folder = shared_data / "experiment/total_scattering"
    for path in sorted(folder.glob("zr_phosphates/*.chi")):
        pattern = read_pattern(path)
        assert pattern.q[-1] == pytest.approx(31.7159, abs=1e-3)
    for path in sorted(folder.glob("*/*.gr")):
        refusal = unread.get(f"total_scattering/{path.parent.name}/{path.name}")
        if refusal is not None:
            with pytest.raises(FileFormatError, match=refusal):
                read_pdf(path)
            continue
        pdf = read_pdf(path)
        assert pdf.composition
        assert pdf.settings["q_max"] >= 15.0
    nickel = read_pattern(folder / "ni/Ni.chi", q_unit="1/A")
    assert nickel.wavelength == pytest.approx(0.1835957)
    assert nickel.variance is not None


@pytest.mark.parametrize(
    ("columns", "sigma"),
    [(1, None), (2, 0.2), (3, 0.3)],
)
def test_g_is_read_with_the_uncertainties_that_it_has(tmp_path, columns, sigma):
    r = np.arange(0.0, 10.0, 0.1)
    more = (np.sin(r), np.full(r.size, 0.2), np.full(r.size, 0.3))[:columns]
    pdf = read_pdf(write(tmp_path, "qmax = 20\n#### start data\n#L r G\n" + rows(r, *more), "a.gr"))
    assert pdf.g == pytest.approx(np.sin(r), abs=1e-6)
    assert (pdf.g_variance is None) if sigma is None else pdf.g_variance == pytest.approx(sigma**2)
    assert pdf.q is None
    assert pdf.settings == {"q_max": 20.0}
    assert pdf.composition == {}


def test_a_damaged_g_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="ascending"):
        read_pdf(write(tmp_path, "1 2\n1 3\n", "a.gr"))
