"""The pairs of one metal, from two patterns at two energies below its absorption edge.

Near its edge an atom scatters with f(Q, E) = f0(Q) + f'(E) + i f''(E). Only pairs with that atom change::

    a_E I_E = <|f|^2>_E + Compton + |<f>|^2_E (S_E - 1)
    dF(Q)   = Q [N_far - N_near] / [|<f>|^2_far - |<f>|^2_near],   N_E = a_E I_E - Compton - <|f|^2>_E
    dG(r)   = (2/pi) integral dF(Q) sin(Q r) dQ

(after P. H. Fuoss, P. Eisenberger, W. K. Warburton and A. Bienenstock, Phys. Rev. Lett. 46 (1981) 1537). The
divisor is small: it amplifies counting noise, and errors of the relative scale of the two patterns, by
``|<f>|^2`` over it. Both are propagated, and a difference within them is refused. Dispersion corrections
are those of C. T. Chantler, J. Phys. Chem. Ref. Data 29 (2000) 597.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray, PairDistribution, ScatteringPattern
from bluesky_xpdml.reduction.composition import atom_fractions
from bluesky_xpdml.reduction.scattering_factors import compton, form_factor
from bluesky_xpdml.reduction.structure_function import remove_polynomial, sine_transform
from bluesky_xpdml.vocabulary import Reason, ReasonCode

HC = 12398.4198
"""Energy times wavelength of a photon [eV angstrom]."""
JUDGED_RANGE = (1.5, 6.0)
"""Range over which signal and noise are compared [angstrom]."""
CLOSEST_TO_EDGE = 2.0
"""Tabulated f' is not valid nearer to the edge [eV]."""
FEWEST_POINTS = 20
"""Smallest number of common points of both patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalousSettings:
    """How the difference of two patterns is reduced."""

    q_min: float = 0.5
    """[1/angstrom]"""
    q_max: float
    """[1/angstrom]; both patterns must reach it."""
    r_poly: float = 0.9
    """Features of dG(r) below are errors [angstrom]."""
    r_max: float = 12.0
    """End of the curve [angstrom]."""
    r_step: float = 0.02
    """[angstrom]"""
    relative_scale_uncertainty: float = 0.002
    """Standard uncertainty of the scale of one pattern against the other: monitor and normalisation."""
    least_signal_to_noise: float = 3.0
    """Smallest accepted ratio of signal to noise over 1.5 to 6 angstrom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    """One pattern on the common grid, in electron units."""

    intensity: FloatArray
    variance: FloatArray
    squared_mean: FloatArray
    """|<f>|^2"""
    mean_square: FloatArray
    """<|f|^2> and Compton scattering"""


def dispersion(element: str, energy: float) -> complex:
    """Return f' + i f'' of an element at a photon energy [eV], in electrons."""
    import xraydb

    real, imaginary = xraydb.f1_chantler(element, energy), xraydb.f2_chantler(element, energy)
    return complex(float(real), float(imaginary))


def anomalous_difference(
    far: ScatteringPattern,
    near: ScatteringPattern,
    *,
    composition: str,
    element: str,
    settings: AnomalousSettings,
) -> PairDistribution:
    """Reduce two patterns to the metal-differential pair distribution function dG(r).

    `far` and `near` are patterns without background, with variances and wavelengths, far below and near the K
    edge of the metal `element`. The result has variances of counting noise and relative scale; its settings
    hold amplification and signal to noise. A ReductionError is raised if the patterns or their energies do
    not match, or the signal is too small.
    """
    energies = tuple(_energy(pattern, name) for pattern, name in ((far, "far"), (near, "near")))
    _require_energies(element, energies, settings)
    fractions = atom_fractions(composition)
    if element not in fractions:
        raise ReductionError(
            f"expected a composition with {element}, found {composition}", ReasonCode.COMPOSITION_MISSING
        )
    q = _common_grid(far, near, settings)
    first, second = (
        _term(pattern, q, composition, fractions, energy)
        for pattern, energy in zip((far, near), energies, strict=True)
    )
    f, f_variance, leak = _difference(q, first, second, settings)
    r = np.arange(0.0, settings.r_max + 0.5 * settings.r_step, settings.r_step)
    g, counting = sine_transform(q, f, r, variance=f_variance)
    variance = sine_transform(q, leak, r)[0] ** 2 + (0.0 if counting is None else counting)
    ratio = _signal_to_noise(r, g, variance)
    amplification = float(np.median(first.squared_mean / (first.squared_mean - second.squared_mean)))
    if not ratio >= settings.least_signal_to_noise:
        raise ReductionError(
            f"the anomalous difference has a signal of {ratio:.2g} times its noise, expected at least "
            f"{settings.least_signal_to_noise:g}: f' amplifies noise {amplification:.0f} times; count "
            "longer, or measure nearer to the edge and farther from it",
            ReasonCode.SIGNAL_TO_NOISE,
        )
    reduced = PairDistribution(
        r=r,
        g=g,
        g_variance=np.asarray(variance),
        q=q,
        f=f,
        f_variance=f_variance,
        composition=dict(fractions),
        settings={
            **asdict(settings),
            "element": element,
            "energies": list(energies),
            "amplification": amplification,
            "signal_to_noise": ratio,
        },
    )
    return _with_origin(reduced, far, near)


def _with_origin(
    reduced: PairDistribution, far: ScatteringPattern, near: ScatteringPattern
) -> PairDistribution:
    """Return the curve with the metadata of both patterns."""
    known = reduced.settings
    text = (
        f"anomalous difference at {known['element']}: noise amplified {known['amplification']:.1f} times, "
        f"signal to noise {known['signal_to_noise']:.1f}"
    )
    return replace(
        reduced,
        sample=near.sample,
        raw_uids=(*far.raw_uids, *near.raw_uids),
        source=f"{far.source} - {near.source}".strip(" -"),
        completeness=min(far.completeness, near.completeness),
        quality=far.quality.merge(near.quality).note(Reason(text, ReasonCode.SIGNAL_TO_NOISE)),
    )


def _difference(
    q: FloatArray, far: _Term, near: _Term, settings: AnomalousSettings
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return dF(Q), its variance, and the error by one standard uncertainty of the relative scale."""
    change = far.squared_mean - near.squared_mean
    _require_change(change, far.squared_mean)
    gain = q / change
    f = gain * (far.intensity - far.mean_square - near.intensity + near.mean_square)
    leak = settings.relative_scale_uncertainty * gain * far.intensity
    return (
        remove_polynomial(q, f, settings.r_poly),
        np.asarray(gain**2 * (far.variance + near.variance)),
        remove_polynomial(q, leak, settings.r_poly),
    )


def _energy(pattern: ScatteringPattern, name: str) -> float:
    if pattern.wavelength is None or not pattern.wavelength > 0.0:
        raise ReductionError(
            f"the {name} pattern has no wavelength: an anomalous difference needs both",
            ReasonCode.CALIBRATION_MISSING,
        )
    if pattern.variance is None:
        raise ReductionError(
            f"the {name} pattern has no variances: the noise of a difference must be known",
            ReasonCode.VARIANCE_MISSING,
        )
    return HC / pattern.wavelength


def _require_energies(element: str, energies: tuple[float, ...], settings: AnomalousSettings) -> None:
    import xraydb

    edge = xraydb.xray_edge(element, "K")
    if edge is None:
        raise ReductionError(f"no K edge is tabulated for {element!r}: expected the symbol of an element")
    far, near = energies
    if not far < near <= edge.energy - CLOSEST_TO_EDGE:
        raise ReductionError(
            f"energies {far:.1f} and {near:.1f} eV: expected both below the {element} K edge at "
            f"{edge.energy:.1f} eV, the far one lower and neither within {CLOSEST_TO_EDGE:g} eV of the edge"
        )
    limit = 4.0 * np.pi * far / HC
    if not 0.0 < settings.q_min < settings.q_max < limit:
        raise ReductionError(
            f"q_min {settings.q_min:g}, q_max {settings.q_max:g}: expected 0 < q_min < q_max < {limit:.2f} "
            "1/angstrom, which is backscattering",
            ReasonCode.Q_RANGE,
        )


def _common_grid(far: ScatteringPattern, near: ScatteringPattern, settings: AnomalousSettings) -> FloatArray:
    low, high = max(far.q[0], near.q[0]), min(far.q[-1], near.q[-1])
    if high < settings.q_max - 1e-6:
        raise ReductionError(
            f"the patterns end at {high:.2f}, expected q_max {settings.q_max:g} 1/angstrom",
            ReasonCode.Q_RANGE,
        )
    kept = (far.q >= max(low, settings.q_min)) & (far.q <= settings.q_max)
    if np.count_nonzero(kept) < FEWEST_POINTS:
        raise ReductionError(
            f"{np.count_nonzero(kept)} points between q_min and q_max, expected {FEWEST_POINTS}: check the "
            "ranges of both patterns",
            ReasonCode.Q_RANGE,
        )
    return np.asarray(far.q[kept], dtype=np.float64)


def _term(
    pattern: ScatteringPattern,
    q: FloatArray,
    composition: str,
    fractions: dict[str, float],
    energy: float,
) -> _Term:
    """Interpolate a pattern to the common grid and scale it to the mean scattering of its atoms."""
    factors = {symbol: form_factor(symbol, q) + dispersion(symbol, energy) for symbol in fractions}
    mean = sum(share * factors[symbol] for symbol, share in fractions.items())
    square = sum(share * np.abs(factors[symbol]) ** 2 for symbol, share in fractions.items())
    target = np.asarray(square + compton(composition, q), dtype=np.float64)
    intensity = np.interp(q, pattern.q, pattern.intensity)
    variance = np.interp(q, pattern.q, pattern.variance if pattern.variance is not None else 0.0 * pattern.q)
    if not (np.all(np.isfinite(intensity)) and np.all(np.isfinite(variance)) and intensity @ target > 0.0):
        raise ReductionError(
            "a pattern holds no finite, positive intensity between q_min and q_max: mask it",
            ReasonCode.SIGNAL_TO_NOISE,
        )
    scale = float(intensity @ target / (intensity @ intensity))
    return _Term(
        intensity=scale * intensity,
        variance=scale**2 * variance,
        squared_mean=np.asarray(np.abs(mean) ** 2, dtype=np.float64),
        mean_square=target,
    )


def _require_change(change: FloatArray, squared_mean: FloatArray) -> None:
    smallest = float((change / squared_mean).min())
    if smallest < 1e-3:
        raise ReductionError(
            f"|<f>|^2 changes by {smallest:.2g} of itself between the energies, expected at least 0.001: "
            "measure nearer to the edge and farther from it",
            ReasonCode.SIGNAL_TO_NOISE,
        )


def _signal_to_noise(r: FloatArray, g: FloatArray, variance: FloatArray) -> float:
    """Return rms signal over rms noise, without the part of the noise in the signal."""
    inside = (r >= JUDGED_RANGE[0]) & (r <= JUDGED_RANGE[1])
    noise = float(np.mean(variance[inside]))
    power = float(np.mean(g[inside] ** 2)) - noise
    return float(np.sqrt(max(power, 0.0) / noise)) if noise > 0.0 else np.inf
