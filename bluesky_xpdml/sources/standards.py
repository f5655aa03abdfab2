"""Measured spectra of compounds with known labels, for the fit of edge curves and the test of models.

A folder of standards holds `labels.csv`, one row per file: `file, element, group` (the compound)`,
oxidation_state, coordination_number, mean_m_o_distance, is_oxide, label_confidence, energy_offset` [eV, to be
added to the energies of the file; blank if unknown].
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bluesky_xpdml.errors import MissingDataError, XpdmlError
from bluesky_xpdml.models.standards import MeasuredSpectrum
from bluesky_xpdml.models.xanes import XanesObservation, observe
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.sources.files import read_scan

LABELS = "labels.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standards:
    """Spectra that could be used, and why others could not."""

    spectra: tuple[MeasuredSpectrum, ...]
    refused: Mapping[str, str]
    """Reason by file."""


def load_standards(folder: Path) -> Standards:
    """Read and reduce every oxide with a known oxidation state.

    Rows count if `is_oxide` is 1, the confidence is high or medium, and oxidation state and foil energy are
    known. A stated energy offset is applied; without one the reference channel calibrates the axis.

    Parameters
    ----------
    folder
        Holds `labels.csv` and the files that it names.

    Raises
    ------
    MissingDataError
        If there is no table of labels.
    """
    table = folder / LABELS
    if not table.is_file():
        msg = f"{table} is missing: expected a table of labelled measured spectra"
        raise MissingDataError(msg)
    spectra: list[MeasuredSpectrum] = []
    refused: dict[str, str] = {}
    with table.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if _is_standard(row)]
    for row in rows:
        try:
            spectra.append(_measured(folder, row))
        except XpdmlError as error:
            refused[row["file"]] = str(error)
    return Standards(spectra=tuple(spectra), refused=refused)


def _is_standard(row: Mapping[str, str]) -> bool:
    return (
        row["is_oxide"] == "1"
        and row["label_confidence"] in {"high", "medium"}
        and row["oxidation_state"] != ""
        and row["element"] in FOIL_ENERGIES
    )


def _measured(folder: Path, row: Mapping[str, str]) -> MeasuredSpectrum:
    scan = read_scan(folder / row["file"], element=row["element"], edge="K")
    offset = row["energy_offset"]
    return MeasuredSpectrum(
        element=row["element"],
        compound=row["group"],
        file=row["file"],
        source=row["file"].partition("/")[0],
        valence=float(row["oxidation_state"]),
        coordination_number=_number(row["coordination_number"]),
        bond_length=_number(row["mean_m_o_distance"]),
        stated_offset=float(offset) if offset else None,
        observation=_observation(scan, float(offset) if offset else "reference"),
        uncalibrated=_uncalibrated(scan),
    )


def _observation(scan: AbsorptionScan, offset: float | Literal["reference", "none"]) -> XanesObservation:
    return observe(reduce_xanes(scan, XanesSettings(energy_offset=offset)))


def _uncalibrated(scan: AbsorptionScan) -> XanesObservation | None:
    try:
        return _observation(scan, "none")
    except XpdmlError:
        # The axis may be so far off that the edge is outside the expected range.
        return None


def _number(text: str) -> float:
    return float(text) if text else math.nan
