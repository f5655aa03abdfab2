"""What a person should know before believing a reduced spectrum.

`faults` are of the measurement: they make a spectrum suspect. `limits` are of what can be read from it: the
spectrum is as good as its makers say, but a model may not be asked without a warning; `unfit` finds
them again among the reasons of a spectrum.
"""

from collections.abc import Iterator

import numpy as np

from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray, Quality, Xanes
from bluesky_xpdml.reduction.detection import counted
from bluesky_xpdml.reduction.edge_contrast import CONTRAST, step_at
from bluesky_xpdml.reduction.identify import AMBIGUOUS, TOLERANCE
from bluesky_xpdml.reduction.noise import clipped, neighbour_deviation, noise_level

NOISY = 0.02
"""Noise above this part of the edge step blurs what models look at."""
GLITCH = 0.05
"""A point this far from its neighbours is a glitch where it also exceeds the noise tenfold [edge steps]."""
SPARSE = 2.0
"""Larger steps across the edge lose its shape [eV]."""
SHORT_PRE_EDGE = 15.0
"""A pre-edge shorter than this fixes no baseline [eV]."""
SHORT_POST_EDGE = 40.0
"""A scan that ends nearer to its edge rides on single oscillations [eV]."""
SMALL_STEP = 0.05
"""A smaller edge step in transmission is mostly background."""
STEEPEST = 1.5
"""No edge rises faster than the core hole's life allows: about one edge step in 1 eV [edge steps/eV]."""
JUMP = 0.3
"""Smaller differences between neighbours are left to noise and glitches [edge steps]."""
LIMITS = ("energy axis not calibrated", "steps of up to", "the scan ends", AMBIGUOUS)
"""How the reasons begin that speak against asking a model, not against the measurement."""


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


def limits(xanes: Xanes) -> tuple[str, ...]:
    """Say what a spectrum is too coarse or too short for, good as it may be.

    Parameters
    ----------
    xanes
        Reduced spectrum.

    Examples
    --------
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 3.0)
    >>> mu = np.arctan((energy - 7120.0) / 2.0)
    >>> limits(reduce_xanes(AbsorptionScan(energy=energy, mu=mu, element="Fe", edge="K")))
    ('steps of up to 3.0 eV across the edge: expected 2 eV or less',)
    """
    return tuple(_limits(xanes.energy - xanes.e0))


def unfit(quality: Quality) -> tuple[str, ...]:
    """Return the reasons that speak against asking a model, though the measurement may be good.

    Parameters
    ----------
    quality
        Of a reduced spectrum.

    Examples
    --------
    >>> unfit(Quality().note("steps of up to 3.0 eV across the edge", "taken as energy and mu"))
    ('steps of up to 3.0 eV across the edge',)
    """
    return tuple(reason for reason in quality.reasons if reason.startswith(LIMITS))


def _faults(xanes: Xanes, scan: AbsorptionScan) -> Iterator[str]:
    if scan.completeness < 1.0:
        yield f"only {100.0 * scan.completeness:.0f} % of the planned points were measured"
    x = xanes.energy - xanes.e0
    yield from _presence(xanes)
    if -x[0] < SHORT_PRE_EDGE:
        yield f"only {-x[0]:.0f} eV of pre-edge: the baseline is uncertain"
    yield from _noise(x, xanes.norm)
    yield from _jumps(xanes.energy, xanes.norm)
    if xanes.mode is DetectionMode.TRANSMISSION and xanes.edge_step < SMALL_STEP:
        yield f"edge step of {xanes.edge_step:.3f} is small: expected {SMALL_STEP} or more in transmission"
    yield from _saturation(scan, xanes.mode)


def _limits(x: FloatArray) -> Iterator[str]:
    if x[-1] < SHORT_POST_EDGE:
        yield f"the scan ends {x[-1]:.0f} eV above the edge: the normalisation is uncertain"
    across = np.diff(x)[(x[1:] > -5.0) & (x[:-1] < 15.0)]
    if across.size and across.max() > 1.05 * SPARSE:
        yield f"steps of up to {across.max():.1f} eV across the edge: expected {SPARSE:.0f} eV or less"


def _presence(xanes: Xanes) -> Iterator[str]:
    """Doubt an edge that does not stand out, or that no element is known to have."""
    rise = step_at(xanes.energy, xanes.mu, xanes.e0)
    if rise is not None and rise.contrast < CONTRAST:
        yield (
            f"the rise at e0 is {max(rise.contrast, 0.0):.1f} times the scatter around it, expected "
            f"{CONTRAST:.0f} or more: there may be no edge"
        )
    if not xanes.element:
        yield (
            f"no tabulated K or L edge lies within {-TOLERANCE[1]:.0f} to {-TOLERANCE[0]:+.0f} eV of the "
            f"edge at {xanes.e0:.0f} eV: name the element, or check the energy axis"
        )


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


def _jumps(energy: FloatArray, norm: FloatArray) -> Iterator[str]:
    """Find differences between neighbours that no absorption edge has; spikes come back, jumps stay."""
    if norm.size < 5:
        return
    difference, steps = np.diff(norm)[1:-1], np.diff(energy)[1:-1]
    stays = norm[3:] - norm[:-3]
    jumped = (np.minimum(np.abs(difference), np.abs(stays)) > np.maximum(JUMP, STEEPEST * steps)) & (
        difference * stays > 0.0
    )
    if jumped.any():
        index = int(np.argmax(np.where(jumped, np.abs(difference), 0.0)))
        yield (
            f"the absorption jumps by {difference[index]:+.2f} edge steps within {steps[index]:.2g} eV at "
            f"{energy[index + 1]:.1f} eV, sharper than any edge: check the beam, the shutter and the gains"
        )


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
    for name, values in counted(scan, mode).items():
        if reason := clipped(values):
            yield f"{name} {reason}"
