"""Spectra as FEFF writes them, `xmu.dat`.

Lines that begin with `#` are the header; one of them says by how much mu was divided::

    # xsedge+ 50, used to normalize mu   4.6001E-03

The columns are omega (energy of the photon [eV]), e (energy above the Fermi level [eV]), k [1/angstrom], mu,
mu0 (of the embedded atom) and chi. mu and mu0 are in units of the absorption 50 eV (or as many as the line
says) above the edge.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.records import FloatArray

COLUMNS = ("omega", "e", "k", "mu", "mu0", "chi")
NORMALISATION = re.compile(r"xsedge\s*\+\s*(\d+),\s*used to normalize mu\s+([-+.\dEe]+)")
ABSORBER = re.compile(r"Abs\s+Z=\s*(\d+).*?\b([KLM]\d?)\s+shell")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeffSpectrum:
    """One spectrum of FEFF."""

    energy: FloatArray
    """[eV], (n,)"""
    mu: FloatArray
    """Absorption in units of the edge step, (n,)."""
    atomic: FloatArray
    """The same of the embedded atom, (n,)."""
    atomic_number: int
    """Of the absorber; 0 where the header does not say."""
    shell: str
    """Such as K; empty where the header does not say."""
    step: float
    """What mu was divided by [angstrom^2]."""


def read_xmu(path: Path) -> FeffSpectrum:
    """Read `xmu.dat`.

    Raises
    ------
    FileFormatError
        If the table has not the six columns, or energies do not rise.
    MissingDataError
        If the header does not say by what mu was normalised.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    header = "\n".join(line for line in lines if line.lstrip().startswith("#"))
    table = _table([line for line in lines if line.strip() and not line.lstrip().startswith("#")], path)
    normalised = NORMALISATION.search(header)
    if normalised is None:
        msg = f"{path}: expected a line `xsedge+ 50, used to normalize mu`: mu may be in absolute units"
        raise MissingDataError(msg)
    absorber = ABSORBER.search(header)
    return FeffSpectrum(
        energy=table[:, 0],
        mu=table[:, 3],
        atomic=table[:, 4],
        atomic_number=int(absorber[1]) if absorber else 0,
        shell=absorber[2] if absorber else "",
        step=float(normalised[2]),
    )


def _table(lines: list[str], path: Path) -> FloatArray:
    try:
        table = np.array([[float(word) for word in line.split()] for line in lines])
    except ValueError as error:
        msg = f"{path} is no xmu.dat: expected numbers in the columns {', '.join(COLUMNS)} ({error})"
        raise FileFormatError(msg) from error
    if table.ndim != 2 or table.shape[1] != len(COLUMNS):
        msg = f"{path} is no xmu.dat: expected the columns {', '.join(COLUMNS)}, found shape {table.shape}"
        raise FileFormatError(msg)
    if np.any(np.diff(table[:, 0]) <= 0.0):
        msg = f"{path}: the energies do not rise from line to line"
        raise FileFormatError(msg)
    return table
