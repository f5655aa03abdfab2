"""The only builder of `AbsorptionScan`: units, order, repeated points and lengths are checked here."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bluesky_xpdml.documents.columns import float_column
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import AbsorptionScan, FloatArray, Quality, Sample
from bluesky_xpdml.vocabulary import Reason, ReasonCode

HC = 12398.41984
"""Planck constant times speed of light [eV angstrom]."""
MINIMUM_POINTS = 10
"""Fewer points than this cannot hold an edge."""

_ELEMENT = "fluorescence of element "

_EV_PER_UNIT = {"ev": 1.0, "kev": 1000.0}


def bragg_energy(angle: ArrayLike, plane_distance: float) -> FloatArray:
    """Return the photon energy by Bragg's law, E = hc / (2 d sin(theta)) [eV].

    The angle theta is that between the beam and the lattice planes [rad], d their distance [angstrom].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(HC / (2.0 * plane_distance * np.sin(np.asarray(angle, dtype=np.float64))))


def absorption_scan(
    *,
    energy: ArrayLike,
    energy_unit: str,
    i0: ArrayLike | None = None,
    it: ArrayLike | None = None,
    ir: ArrayLike | None = None,
    fluorescence: ArrayLike | None = None,
    fluorescence_elements: Mapping[str, ArrayLike] | None = None,
    electron_yield: ArrayLike | None = None,
    mu: ArrayLike | None = None,
    element: str = "",
    edge: str = "",
    sample: Sample | None = None,
    raw_uids: tuple[str, ...] = (),
    source: str = "",
    completeness: float = 1.0,
    quality: Quality | None = None,
) -> AbsorptionScan:
    """Return a scan in eV on a strictly ascending axis; changes to the data are noted in its quality.

    Points whose energy is not a positive, finite number are left out, points that repeat an energy are
    averaged channel by channel. NaN in a channel stays, for the reduction to judge.

    Parameters
    ----------
    energy
        Photon energy [energy_unit], (n,), in any order.
    energy_unit
        `eV` or `keV`.
    i0, it, ir, fluorescence, electron_yield, mu
        The channels as in `AbsorptionScan`, (n,) each; None if not measured.
    fluorescence_elements
        Fluorescence by detector element, (n,) each, if it is known by element.
    element, edge, sample, raw_uids, source
        As in `AbsorptionScan`.
    completeness
        Measured fraction of the planned points, 0 to 1.
    quality
        Earlier remarks; more are added.

    Raises
    ------
    DocumentError
        If the unit is not an energy, columns differ in length or hold no numbers, or fewer than ten
        points are left.
    MissingDataError
        If no channels give an absorption.

    Examples
    --------
    >>> import numpy as np
    >>> scan = absorption_scan(energy=np.linspace(7.3, 7.0, 61), energy_unit="keV", mu=np.ones(61))
    >>> float(scan.energy[0]), float(scan.energy[-1])
    (7000.0, 7300.0)
    """
    given = {"i0": i0, "it": it, "ir": ir, "fluorescence": fluorescence, "mu": mu}
    given |= {"electron_yield": electron_yield}
    channels = {name: float_column(values, name) for name, values in given.items() if values is not None}
    elements = {_ELEMENT + name: values for name, values in (fluorescence_elements or {}).items()}
    channels |= {name: float_column(values, name) for name, values in elements.items()}
    _require_signal(channels)
    axis = _in_ev(float_column(energy, "energy"), energy_unit)
    _require_lengths(axis, channels)
    table = _ordered(axis, channels)
    return AbsorptionScan(
        energy=table.energy,
        i0=table.channels.get("i0"),
        it=table.channels.get("it"),
        ir=table.channels.get("ir"),
        fluorescence=table.channels.get("fluorescence"),
        fluorescence_elements={
            name.removeprefix(_ELEMENT): table.channels[name] for name in table.channels if name in elements
        },
        electron_yield=table.channels.get("electron_yield"),
        mu=table.channels.get("mu"),
        element=element,
        edge=edge,
        sample=sample or Sample(),
        raw_uids=raw_uids,
        source=source,
        completeness=_fraction(completeness),
        quality=(quality or Quality()).note(*table.remarks),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    energy: FloatArray
    channels: dict[str, FloatArray]
    remarks: tuple[Reason, ...]


def _in_ev(energy: FloatArray, unit: str) -> FloatArray:
    factor = _EV_PER_UNIT.get(str(unit).strip().lower())
    if factor is None:
        raise DocumentError(
            f"expected an energy in eV or keV, found the unit {unit!r}; state the unit of the axis"
        )
    with np.errstate(over="ignore"):
        return energy * factor


def _require_signal(channels: dict[str, FloatArray]) -> None:
    have = {"fluorescence" if name.startswith(_ELEMENT) else name for name in channels}
    after_i0 = {"it", "fluorescence", "electron_yield"}
    if "mu" in have or {"it", "ir"} <= have or ("i0" in have and have & after_i0):
        return
    raise MissingDataError(
        "expected mu, or i0 with it, fluorescence or electron yield, or it with ir; "
        f"found {', '.join(sorted(have)) or 'no channel at all'}"
    )


def _require_lengths(energy: FloatArray, channels: dict[str, FloatArray]) -> None:
    wrong = {name: values.size for name, values in channels.items() if values.size != energy.size}
    if wrong:
        found = ", ".join(f"{name} has {size}" for name, size in wrong.items())
        raise DocumentError(f"expected columns of {energy.size} points, as the energy has; {found}")


def _ordered(energy: FloatArray, channels: dict[str, FloatArray]) -> _Table:
    """Drop points without an energy, sort, and average points of equal energy."""
    keep = np.isfinite(energy) & (energy > 0)
    dropped = int(energy.size - np.count_nonzero(keep))
    axis, inverse = np.unique(energy[keep], return_inverse=True)
    merged = int(np.count_nonzero(keep)) - axis.size
    if axis.size < MINIMUM_POINTS:
        raise DocumentError(
            f"expected at least {MINIMUM_POINTS} points of different energy, found {axis.size} "
            f"of {energy.size} ({dropped} without an energy); scan further, or check the energy column"
        )
    remarks = []
    if dropped:
        remarks.append(f"{dropped} points without a positive, finite energy were left out")
    if merged:
        remarks.append(f"{merged} points that repeat an energy were averaged with it")
    means = {name: _mean_by_group(values[keep], inverse, axis.size) for name, values in channels.items()}
    return _Table(axis, means, tuple(Reason(text, ReasonCode.INTERPRETED_INPUT) for text in remarks))


def _mean_by_group(values: FloatArray, group: np.ndarray, n_groups: int) -> FloatArray:
    """Return the mean of the known values of each group; NaN if none is known."""
    known = ~np.isnan(values)
    counts = np.bincount(group[known], minlength=n_groups)
    sums = np.bincount(group[known], weights=values[known], minlength=n_groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _fraction(completeness: float) -> float:
    if not 0.0 <= completeness <= 1.0:
        raise DocumentError(f"expected a completeness of 0 to 1, found {completeness}")
    return float(completeness)
