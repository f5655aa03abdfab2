"""Spectra of FEFF are read as its headers say, or refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.factory.dataset.spectra import read_xmu

HEADER = """#                                                     FEFF 9.9.1
# Abs   Z=22 Rmt= 1.092 Rnm= 1.298 K  shell
# Pot 1 Z= 8 Rmt= 0.994 Rnm= 1.087
# Gam_ch=8.600E-01 H-L exch Vi= 0.000E+00 Vr= 0.000E+00
#   0/   0 paths used
# xsedge+ 50, used to normalize mu           4.6001E-03
# -----------------------------------------------------------------------
#  omega    e    k    mu    mu0     chi     @#
"""


def write_xmu(path: Path, energy: np.ndarray, mu: np.ndarray, *, header: str = HEADER) -> Path:
    """Write a spectrum in the columns and digits of FEFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mu0 = np.where(energy > energy.mean(), 1.0, 0.01)
    k = np.sign(energy - energy.mean()) * np.sqrt(np.abs(energy - energy.mean()) / 3.81)
    rows = zip(energy, energy - energy.mean(), k, mu, mu0, mu - mu0, strict=True)
    lines = [f"{o:12.3f}{e:11.3f}{k_:8.3f}{m:13.5E}{m0:13.5E}{c:13.5E}" for o, e, k_, m, m0, c in rows]
    path.write_text(header + "\n".join(lines) + "\n")
    return path


def test_columns_and_header_are_read(tmp_path: Path) -> None:
    energy = np.array([4960.0, 4962.5, 4966.125, 4970.0])
    mu = np.array([0.02, 0.4, 1.25, 1.01])
    spectrum = read_xmu(write_xmu(tmp_path / "xmu.dat", energy, mu))
    np.testing.assert_array_equal(spectrum.energy, energy)
    np.testing.assert_array_equal(spectrum.mu, mu)
    assert (spectrum.atomic_number, spectrum.shell) == (22, "K")


@given(mu=st.lists(st.floats(0.0, 9.0), min_size=2, max_size=30))
def test_values_survive_to_the_digits_of_the_file(
    mu: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("feff") / "xmu.dat"
    energy = 7100.0 + 0.5 * np.arange(len(mu))
    found = read_xmu(write_xmu(path, energy, np.array(mu))).mu
    np.testing.assert_allclose(found, mu, rtol=1e-5, atol=1e-30)


def test_a_spectrum_that_does_not_say_its_units_is_refused(tmp_path: Path) -> None:
    header = "\n".join(line for line in HEADER.splitlines() if "xsedge" not in line) + "\n"
    path = write_xmu(tmp_path / "xmu.dat", np.array([1.0, 2.0]), np.array([0.1, 1.0]), header=header)
    with pytest.raises(MissingDataError, match="used to normalize mu"):
        read_xmu(path)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("1.0 2.0 3.0\n", "expected the columns omega, e, k, mu, mu0, chi"),
        ("", "expected the columns"),
        ("a b c d e f\n", "expected numbers"),
        ("1 2 3\n1 2 3 4\n", "no xmu.dat"),
        ("2 0 0 1 1 0\n1 0 0 1 1 0\n", "energies do not rise"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, body: str, complaint: str) -> None:
    path = tmp_path / "xmu.dat"
    path.write_text(HEADER + body)
    with pytest.raises(FileFormatError, match=complaint):
        read_xmu(path)
