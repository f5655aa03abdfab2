"""What a person should know before believing a reduced spectrum."""

from collections.abc import Iterator

import numpy as np

from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray, Xanes
from bluesky_xpdml.reduction.channels import neighbour_deviation, noise_level

NOISY = 0.02
"""Noise above this part of the edge step blurs what models look at."""
GLITCH = 0.05
"""A point this far from its neighbours is a glitch where it also exceeds the noise tenfold [edge steps]."""
SPARSE = 2.0
"""Larger steps across the edge lose its shape [eV]."""
SHORT_PRE_EDGE = 15.0
"""A pre-edge shorter than this fixes no baseline [eV]."""
SHORT_POST_EDGE = 20.0
"""A post-edge fit over less than this rides on single oscillations [eV]."""
SMALL_STEP = 0.05
"""A smaller edge step in transmission is mostly background."""
FLAT_POINTS = 6
"""So many equal counts in a row at a channel's maximum mean saturation."""


def faults(xanes: Xanes, scan: AbsorptionScan) -> tuple[str, ...]:
    """Say in words, with numbers, what makes a reduced spectrum suspect; nothing where nothing does.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    scan
        What it was reduced from.

    Examples
    --------
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> mu = np.arctan((energy - 7120.0) / 2.0)
    >>> scan = AbsorptionScan(energy=energy, mu=mu, element="Fe", edge="K", completeness=0.5)
    >>> faults(reduce_xanes(scan), scan)
    ('only 50 % of the planned points were measured',)
    """
    return tuple(_faults(xanes, scan))


def _faults(xanes: Xanes, scan: AbsorptionScan) -> Iterator[str]:
    if scan.completeness < 1.0:
        yield f"only {100.0 * scan.completeness:.0f} % of the planned points were measured"
    x = xanes.energy - xanes.e0
    yield from _ranges(x)
    yield from _noise(x, xanes.norm)
    if xanes.mode is DetectionMode.TRANSMISSION and xanes.edge_step < SMALL_STEP:
        yield f"edge step of {xanes.edge_step:.3f} is small: expected {SMALL_STEP} or more in transmission"
    yield from _saturation(scan, xanes.mode)


def _ranges(x: FloatArray) -> Iterator[str]:
    if -x[0] < SHORT_PRE_EDGE:
        yield f"only {-x[0]:.0f} eV of pre-edge: the baseline is uncertain"
    if x[-1] < 2.0 * SHORT_POST_EDGE:
        yield f"the scan ends {x[-1]:.0f} eV above the edge: the normalisation is uncertain"
    across = np.diff(x)[(x[1:] > -5.0) & (x[:-1] < 15.0)]
    if across.size and across.max() > 1.05 * SPARSE:
        yield f"steps of up to {across.max():.1f} eV across the edge: expected {SPARSE:.0f} eV or less"


def _noise(x: FloatArray, norm: FloatArray) -> Iterator[str]:
    before, after = x < -12.0, x > 30.0
    for name, chosen in (("pre-edge", before), ("post-edge", after)):
        level = noise_level(x[chosen], norm[chosen])
        if level > NOISY:
            yield f"noise of {100.0 * level:.1f} % of the edge step in the {name}"
        spikes = _spikes(x[chosen], norm[chosen])
        glitches = int(np.count_nonzero(spikes > max(GLITCH, 10.0 * level)))
        if glitches:
            yield f"glitches in the {name} at {glitches} points, up to {spikes.max():.2f} edge steps"


def _spikes(x: FloatArray, norm: FloatArray) -> FloatArray:
    """Return how far single points stand out to the other side than both their neighbours.

    Fine structure on a coarse grid bends the curve to the same side at several points, a glitch does not.
    """
    if x.size < 5:
        return np.zeros(1)
    deviation = neighbour_deviation(x, norm)
    alone = (deviation[1:-1] * deviation[:-2] < 0.0) & (deviation[1:-1] * deviation[2:] < 0.0)
    return np.where(alone, np.abs(deviation[1:-1]), 0.0)


def _saturation(scan: AbsorptionScan, mode: DetectionMode) -> Iterator[str]:
    used = {
        DetectionMode.TRANSMISSION: {"I0": scan.i0, "It": scan.it},
        DetectionMode.FLUORESCENCE: {"I0": scan.i0, "If": scan.fluorescence},
        DetectionMode.ELECTRON_YIELD: {"I0": scan.i0, "Iy": scan.electron_yield},
        DetectionMode.REFERENCE: {"It": scan.it, "Ir": scan.ir},
        DetectionMode.MU: {"mu": scan.mu},
    }[mode]
    for name, values in used.items():
        if values is None or np.nanmin(values) == np.nanmax(values):
            continue
        at_top = np.abs(values) >= np.nanmax(np.abs(values))
        run = _longest_run(at_top)
        if run >= FLAT_POINTS:
            yield f"{name} stays at its maximum for {run} points: the detector is saturated"


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
