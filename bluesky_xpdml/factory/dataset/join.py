"""Spectra on one axis an element, each with the site that it belongs to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.entries import Dropped
from bluesky_xpdml.factory.dataset.spectra import AVERAGED, SpectrumEntry, drop_spectrum
from bluesky_xpdml.records import FloatArray

TOLERANCE = 1e-3
"""Axes that agree within this are the same [eV]."""
SAME_LENGTH = 1e-3
"""Sites whose bond lengths agree within this may be alike [angstrom]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyAxis:
    """An axis with equal steps."""

    low: float
    """[eV]"""
    high: float
    """[eV], included"""
    step: float
    """[eV]"""

    def points(self) -> FloatArray:
        """Return the energies [eV]."""
        if not (self.step > 0.0 and self.high > self.low):
            msg = f"energies {self.low} to {self.high} in steps of {self.step} eV: expected low:high:step"
            raise TrainingError(msg)
        count = int(np.floor((self.high - self.low) / self.step + 1e-6)) + 1
        return np.asarray(self.low + self.step * np.arange(count), dtype=float)


def on_one_axis(
    spectra: Iterable[SpectrumEntry], axes: Mapping[str, EnergyAxis]
) -> tuple[list[SpectrumEntry], list[Dropped]]:
    """Put the spectra of each element on one axis."""
    by_element: dict[str, list[SpectrumEntry]] = defaultdict(list)
    for spectrum in spectra:
        by_element[spectrum.element].append(spectrum)
    usable: list[SpectrumEntry] = []
    outside: list[Dropped] = []
    for element, group in by_element.items():
        if element in axes:
            points = axes[element].points()
            for spectrum in group:
                found = _interpolated(spectrum, points)
                if isinstance(found, Dropped):
                    outside.append(found)
                else:
                    usable.append(found)
        else:
            usable += _same_axis(element, group)
    return usable, outside


def join_spectra(
    spectra: Iterable[SpectrumEntry],
    sites: Sequence[Mapping[str, Any]],
    structures: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[Dropped]]:
    """Find the labelled site of each spectrum."""
    known = {row["id"] for row in structures}
    labels: dict[tuple[str, int], Mapping[str, Any]] = {(row["id"], row["site"]): row for row in sites}
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in sites:
        alike[row["id"], row["element"]].append(row)
    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    seen: set[tuple[str, int, str]] = set()
    for spectrum in spectra:
        site, reason = _site(spectrum, labels, alike[spectrum.id, spectrum.element])
        if spectrum.id not in known:
            reason = "no structure of this identifier"
        elif not reason and (spectrum.id, site, spectrum.source) in seen:
            reason = "site has a spectrum of this source"
        if reason:
            dropped.append(drop_spectrum(spectrum, reason, ""))
            continue
        seen.add((spectrum.id, site, spectrum.source))
        own = {name: getattr(spectrum, name) for name in SpectrumEntry.__dataclass_fields__}
        rows.append(own | {"site": site, "mu": spectrum.mu.astype(np.float32)})
    return rows, dropped


def _site(
    spectrum: SpectrumEntry,
    labels: Mapping[tuple[str, int], Mapping[str, Any]],
    alike: Sequence[Mapping[str, Any]],
) -> tuple[int, str]:
    """Return the site of a spectrum, or why it has none."""
    if spectrum.site == AVERAGED:
        if not alike:
            return AVERAGED, "no labelled site of the element"
        labels_of = {(str(row["valence"]), row["coordination_number"], row["geometry"]) for row in alike}
        lengths = [row["bond_length"] for row in alike]
        if len(labels_of) > 1 or max(lengths) - min(lengths) > SAME_LENGTH:
            return AVERAGED, "mean over sites that differ"
        return int(alike[0]["site"]), ""
    found = labels.get((spectrum.id, spectrum.site))
    if found is None or found["element"] != spectrum.element:
        return spectrum.site, "no labelled site of the element"
    return spectrum.site, ""


def _interpolated(spectrum: SpectrumEntry, points: FloatArray) -> SpectrumEntry | Dropped:
    from scipy.interpolate import PchipInterpolator

    first, last = spectrum.energy[0], spectrum.energy[-1]
    if first > points[0] + TOLERANCE or last < points[-1] - TOLERANCE:
        return drop_spectrum(spectrum, "does not reach over the axis", f"{first:.2f} to {last:.2f} eV")
    if spectrum.energy.size == points.size and np.allclose(spectrum.energy, points, rtol=0.0, atol=TOLERANCE):
        return replace(spectrum, energy=points)
    at = np.clip(points, first, last)
    mu = np.asarray(PchipInterpolator(spectrum.energy, spectrum.mu)(at), dtype=float)
    return replace(spectrum, energy=points, mu=mu)


def _same_axis(element: str, group: Sequence[SpectrumEntry]) -> list[SpectrumEntry]:
    axis = group[0].energy
    for spectrum in group:
        if spectrum.energy.size != axis.size or np.max(np.abs(spectrum.energy - axis)) > TOLERANCE:
            low = max(other.energy[0] for other in group)
            high = min(other.energy[-1] for other in group)
            msg = (
                f"spectra of {element} have several axes ({group[0].file}, {spectrum.file}): name one with "
                f"--energy {element}=LOW:HIGH:STEP; all of them reach from {low:.2f} to {high:.2f} eV"
            )
            raise TrainingError(msg)
    return [replace(spectrum, energy=axis) for spectrum in group]
