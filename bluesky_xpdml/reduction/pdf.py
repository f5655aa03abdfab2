"""I(Q) to G(r), and to coordination numbers: explicit settings, and a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import Estimate, FloatArray, PairDistribution, Quality, ScatteringPattern
from bluesky_xpdml.reduction.composition import HOW_TO_GIVE, atom_fractions, formula, parse_composition
from bluesky_xpdml.reduction.noise import noise_level
from bluesky_xpdml.reduction.pattern import FEWEST_POINTS, Subtracted, subtract_background
from bluesky_xpdml.reduction.scattering_factors import MeanFactors, form_factor, mean_factors
from bluesky_xpdml.reduction.structure_function import (
    StructureFunction,
    remove_polynomial,
    sine_transform,
    structure_function,
)
from bluesky_xpdml.vocabulary import Reason, ReasonCode

FIRST_Q = 0.5
"""Beam stop and small-angle scattering dominate below [1/angstrom]."""
WINDOW = 2.0
"""Width over which the strength of the oscillations is measured [1/angstrom]."""
LEAST_SIGNAL = 0.3
"""Smallest useful variance of the oscillations of F(Q), relative to that of its noise."""
GROWTH = 1.5
"""Thermal motion lets F(Q) fade; if its amplitude grows again by this factor, errors dominate."""
USUAL_R_POLY = 0.9
"""No bonds but those of hydrogen are shorter [angstrom]."""
LARGEST_R_POLY = 1.4
"""[angstrom]"""
R_POLY_PART = 0.6
"""r_poly as a part of the shortest distance in the sample."""
USED_PART = 0.96
"""Used part of a pattern: bins at its end hold the few pixels in the corners of the detector."""
SIGNIFICANT = 3.0
"""A bin is used if its intensity exceeds its standard uncertainty by this factor."""
MOST_POINTS = 50_000
"""Largest number of points of G(r)."""
SHORT_RANGE = 10.0
"""A smaller q_max blurs the first shell [1/angstrom]."""
NINETY_PERCENT = 1.6449
"""Half the width of a 90 % interval [standard deviations]."""


def _first_q(pattern: ScatteringPattern) -> tuple[float, str]:
    """Return the first Q of F(Q) [1/angstrom], and why."""
    above = pattern.q[pattern.q >= FIRST_Q]
    q_min = float(above[0]) if above.size else float(pattern.q[0])
    return q_min, f"first point from {FIRST_Q} 1/angstrom on, above beam stop and small-angle scattering"


def _last_q(pattern: ScatteringPattern, q_min: float) -> tuple[float, str]:
    """Return the last usable Q of a pattern [1/angstrom], and why."""
    noise = 0.0 if pattern.variance is None else SIGNIFICANT * np.sqrt(pattern.variance)
    good = np.flatnonzero((pattern.intensity > noise) & (pattern.q >= q_min))
    if good.size == 0:
        raise ReductionError(
            f"no intensity above its noise from {q_min:.3g} 1/angstrom on: the background scale is too "
            "large, or there is no sample",
            ReasonCode.SIGNAL_TO_NOISE,
        )
    end = float(pattern.q[good[-1]])
    if end > USED_PART * pattern.q[-1]:
        reason = f"{USED_PART} of the pattern, without its few outermost pixels"
        return USED_PART * float(pattern.q[-1]), reason
    return end, "beyond, no intensity stands above its noise"


def choose_q_max(q: FloatArray, f: FloatArray, variance: FloatArray | None) -> tuple[float, str]:
    """Return the end of the transform [1/angstrom], and why.

    Q is used while F(Q) oscillates by more than its noise, which is given by the variances, or else by the
    deviations of points from their neighbours; and while it fades, as thermal motion makes it. A
    ReductionError is raised if F(Q) does not oscillate by more than its noise anywhere.
    """
    ends, power, noise = _windows(q, f, variance)
    strong = np.flatnonzero(power > noise)
    if strong.size == 0:
        raise ReductionError(
            "F(Q) oscillates nowhere by more than its noise: count longer, or check the background",
            ReasonCode.SIGNAL_TO_NOISE,
        )
    last = int(strong[-1])
    # F(Q) is weak before its first peak too; it fades from its maximum on.
    strongest = int(np.argmax(power[: last // 2 + 1]))
    fade = strongest + int(np.argmin(power[strongest : last + 1]))
    if power[fade : last + 1].max() > GROWTH**2 * power[fade]:
        reason = f"beyond {ends[fade]:.1f} 1/angstrom F(Q) grows again: errors outweigh the structure"
        return float(ends[fade]), reason
    if last == ends.size - 1:
        return float(q[-1]), "F(Q) oscillates by more than its noise up to q_max_inst"
    return float(ends[last]), f"beyond {ends[last]:.1f} 1/angstrom F(Q) oscillates by no more than its noise"


def _windows(
    q: FloatArray, f: FloatArray, variance: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the ends of windows over q, the variance of F(Q) in them, and the largest one of noise alone."""
    ends, powers, noises = [], [], []
    for end in np.arange(q[-1], q[0] + WINDOW, -0.25 * WINDOW)[::-1]:
        inside = (q > end - WINDOW) & (q <= end)
        n_points = np.count_nonzero(inside)
        if n_points < 10:
            continue
        noise = noise_level(q[inside], f[inside]) ** 2
        if variance is not None:
            noise = float(np.mean(variance[inside]))
        # The variance of noise is itself uncertain; four times that much is no chance.
        least = max(LEAST_SIGNAL, 4.0 * np.sqrt(2.0 / n_points))
        ends.append(end)
        powers.append(np.var(f[inside]))
        noises.append((1.0 + least) * noise)
    return np.array(ends), np.array(powers), np.array(noises)


def _choose_r_poly(q: FloatArray, f: FloatArray) -> tuple[float, str]:
    """Return the distance below which features of G(r) are errors [angstrom], and why."""
    r = np.arange(1.1, 4.0, 0.02)
    g, _ = sine_transform(q, f, r, lorch=True)
    peaks = (g[1:-1] > g[:-2]) & (g[1:-1] >= g[2:]) & (g[1:-1] > 0.4 * g.max())
    if not peaks.any():
        return USUAL_R_POLY, "no first shell was found below 4 angstrom: the usual value"
    first = float(r[1:-1][peaks][0])
    r_poly = float(np.clip(R_POLY_PART * first, USUAL_R_POLY, LARGEST_R_POLY))
    return r_poly, f"{R_POLY_PART} of the shortest strong distance, {first:.2f} angstrom, within 0.9 to 1.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfSettings:
    """How a pattern is reduced to G(r). `auto` is resolved from the pattern; values and why are published.

    Examples
    --------
    >>> PdfSettings(composition="TiO2", q_max=22.0).q_max
    22.0
    """

    composition: str | Mapping[str, float] | None = None
    """Formula or amounts by element; if None, that of the pattern's sample."""
    background_scale: float | Literal["fit"] = "fit"
    """Scale of the background; `fit`: the largest that leaves no negative intensity."""
    q_min: float | Literal["auto"] = "auto"
    """First Q of F(Q) [1/angstrom]."""
    q_max: float | Literal["auto"] = "auto"
    """End of the transform [1/angstrom]."""
    q_max_inst: float | Literal["auto"] = "auto"
    """Last Q used for scale and correction [1/angstrom]."""
    r_poly: float | Literal["auto"] = "auto"
    """Features of G(r) below are errors [angstrom]."""
    r_min: float = 0.0
    """First distance [angstrom]."""
    r_max: float = 30.0
    """Last distance [angstrom]."""
    r_step: float = 0.01
    """Distance between two points of G(r) [angstrom]."""
    lorch: bool = False
    """Whether to damp F(Q) towards q_max, which trades resolution for ripples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corrected:
    """F(Q) ready to be transformed, on the points from q_min to q_max_inst."""

    pattern: ScatteringPattern
    factors: MeanFactors
    raw: StructureFunction
    f: FloatArray
    resolved: dict[str, object]


def reduce_pdf(
    pattern: ScatteringPattern,
    settings: PdfSettings | None = None,
    *,
    background: ScatteringPattern | None = None,
) -> PairDistribution:
    """Reduce a scattering pattern to S(Q), F(Q) and G(r).

    Parameters
    ----------
    pattern
        I(Q) of the sample with its container and the air.
    settings
        How to reduce it; everything `auto` if None.
    background
        I(Q) without the sample; None if none was measured.

    Raises
    ------
    ReductionError
        If there is no composition, ranges are invalid, or no intensity is left. The message is the reason
        that is published.

    Examples
    --------
    >>> q = np.arange(0.5, 25.0, 0.02)
    >>> f2 = mean_factors("Ni", q).squared_mean
    >>> intensity = f2 * (1.0 + 6.0 * np.exp(-0.003 * q**2) * np.sin(2.5 * q) / (2.5 * q))
    >>> pattern = ScatteringPattern(q=q, intensity=intensity)
    >>> pdf = reduce_pdf(pattern, PdfSettings(composition="Ni", r_poly=0.9))
    >>> round(float(pdf.r[np.argmax(pdf.g)]), 1), round(pdf.settings["q_max"], 2)
    (2.5, 23.98)
    """
    settings = settings or PdfSettings()
    r = _distances(settings)
    composition = _composition(pattern, settings)
    q_from = FIRST_Q if settings.q_min == "auto" else settings.q_min
    subtracted = subtract_background(pattern, background, settings.background_scale, q_min=q_from)
    corrected = _corrected(subtracted.pattern, composition, settings)
    q, q_max, reason = corrected.pattern.q, *_q_max(corrected, settings)
    variance = corrected.raw.variance
    g, g_variance = _transformed(corrected, subtracted.pattern.q, r, q_max, lorch=settings.lorch)
    name = "none" if background is None else background.source or "unnamed"
    resolved = _resolved(composition, subtracted, name) | corrected.resolved
    resolved |= {"q_max": q_max, "q_max_from": reason, "r_min": settings.r_min, "r_max": settings.r_max}
    resolved |= {"r_step": settings.r_step, "lorch": settings.lorch, "scale": corrected.raw.scale}
    scaled, of_scaled = corrected.pattern.intensity * corrected.raw.scale, corrected.pattern.variance
    return PairDistribution(
        r=r,
        g=g,
        g_variance=g_variance,
        q=q,
        intensity=scaled,
        intensity_variance=None if of_scaled is None else of_scaled * corrected.raw.scale**2,
        s=1.0 + corrected.f / q,
        s_variance=None if variance is None else variance / q**2,
        f=corrected.f,
        f_variance=variance,
        composition=atom_fractions(composition),
        settings=resolved,
        scale_uncertainty=corrected.raw.uncertainty,
        sample=pattern.sample,
        raw_uids=subtracted.pattern.raw_uids,
        source=pattern.source,
        completeness=pattern.completeness,
        quality=_quality(subtracted, q_max, variance is None),
    )


def _distances(settings: PdfSettings) -> FloatArray:
    low, high, step = settings.r_min, settings.r_max, settings.r_step
    if not (0.0 <= low < high < np.inf and 0.0 < step < high - low):
        raise ReductionError(
            f"expected 0 <= r_min < r_max and a smaller positive r_step [angstrom], found {low:g}, {high:g}, "
            f"{step:g}",
            ReasonCode.SETTINGS_INVALID,
        )
    n_points = int((high - low) / step + 1.0 + 1e-6)
    if n_points > MOST_POINTS:
        raise ReductionError(
            f"expected at most {MOST_POINTS} distances, found {n_points}: enlarge r_step",
            ReasonCode.SETTINGS_INVALID,
        )
    return np.asarray(low + step * np.arange(n_points))


def _composition(pattern: ScatteringPattern, settings: PdfSettings) -> dict[str, float]:
    composition = settings.composition or pattern.sample.composition
    if not composition:
        raise ReductionError(
            f"the composition of the sample is not known; {HOW_TO_GIVE}", ReasonCode.COMPOSITION_MISSING
        )
    return parse_composition(composition)


def _corrected(
    pattern: ScatteringPattern, composition: Mapping[str, float], settings: PdfSettings
) -> _Corrected:
    q_min, why_min = _first_q(pattern) if settings.q_min == "auto" else (settings.q_min, "given")
    q_inst, why_inst = (
        _last_q(pattern, q_min) if settings.q_max_inst == "auto" else (settings.q_max_inst, "given")
    )
    used = _between(pattern, q_min, q_inst)
    factors = mean_factors(composition, used.q)
    raw = structure_function(used.q, used.intensity, used.variance, factors)
    r_poly, why_poly = _r_poly(used.q, raw.f, settings)
    resolved: dict[str, object] = {
        "q_min": q_min,
        "q_min_from": why_min,
        "q_max_inst": q_inst,
        "q_max_inst_from": why_inst,
        "r_poly": r_poly,
        "r_poly_from": why_poly,
    }
    f = remove_polynomial(used.q, raw.f, r_poly)
    return _Corrected(pattern=used, factors=factors, raw=raw, f=f, resolved=resolved)


def _between(pattern: ScatteringPattern, q_min: float, q_max_inst: float) -> ScatteringPattern:
    """Return the points from q_min to q_max_inst."""
    if not 0.0 <= q_min < q_max_inst < np.inf:
        raise ReductionError(
            f"expected 0 <= q_min < q_max_inst, found {q_min:g} and {q_max_inst:g} 1/angstrom",
            ReasonCode.Q_RANGE,
        )
    # Limits that were rounded when they were written down must not cost a point.
    inside = (pattern.q >= q_min - 1e-9) & (pattern.q <= q_max_inst + 1e-9)
    if np.count_nonzero(inside) < FEWEST_POINTS:
        raise ReductionError(
            f"only {np.count_nonzero(inside)} points lie between q_min = {q_min:.4g} and q_max_inst = "
            f"{q_max_inst:.4g} 1/angstrom; the pattern runs from {pattern.q[0]:.4g} to {pattern.q[-1]:.4g}: "
            "check the unit of its axis",
            ReasonCode.Q_RANGE,
        )
    return replace(
        pattern,
        q=np.ascontiguousarray(pattern.q[inside]),
        intensity=pattern.intensity[inside],
        variance=None if pattern.variance is None else pattern.variance[inside],
    )


def _r_poly(q: FloatArray, f: FloatArray, settings: PdfSettings) -> tuple[float, str]:
    if settings.r_poly != "auto":
        return float(settings.r_poly), "given"
    return _choose_r_poly(q, remove_polynomial(q, f, USUAL_R_POLY))


def _q_max(corrected: _Corrected, settings: PdfSettings) -> tuple[float, str]:
    q = corrected.pattern.q
    if settings.q_max == "auto":
        return choose_q_max(q, corrected.f, corrected.raw.variance)
    if not q[0] < settings.q_max <= q[-1] * 1.001 + float(np.diff(q[-2:])[0]):
        raise ReductionError(
            f"q_max = {settings.q_max:g} 1/angstrom lies outside what is used of the pattern, {q[0]:.4g} to "
            f"{q[-1]:.4g}: lower q_max, or raise q_max_inst",
            ReasonCode.Q_RANGE,
        )
    return float(settings.q_max), "given"


def _transformed(
    corrected: _Corrected, grid: FloatArray, r: FloatArray, q_max: float, *, lorch: bool
) -> tuple[FloatArray, FloatArray | None]:
    """Transform on the grid of the whole pattern, whose sines are cached for any limits."""
    q, variance = corrected.pattern.q, corrected.raw.variance
    first = int(np.searchsorted(grid, q[0]))
    used = slice(first, first + q.size)
    f, of_f = np.zeros_like(grid), None if variance is None else np.zeros_like(grid)
    f[used] = corrected.f
    if of_f is not None:
        of_f[used] = variance
    return sine_transform(grid, f, r, q_min=float(q[0]), q_max=q_max, lorch=lorch, variance=of_f)


def _resolved(composition: Mapping[str, float], subtracted: Subtracted, name: str) -> dict[str, object]:
    return {
        "composition": formula(composition),
        "background": name,
        "background_scale": subtracted.scale,
        "background_scale_from": subtracted.how,
    }


def _quality(subtracted: Subtracted, q_max: float, no_variance: bool) -> Quality:
    quality = subtracted.pattern.quality
    if subtracted.how != "given":
        remark = f"background scale {subtracted.scale:.4g}: {subtracted.how}"
        if subtracted.scale:
            quality = quality.note(Reason(remark, ReasonCode.PATTERN_SCALE))
        else:
            quality = quality.note(Reason("no background was subtracted", ReasonCode.BACKGROUND_MISSING))
    if q_max < SHORT_RANGE:
        quality = quality.suspect(
            Reason(
                f"q_max is only {q_max:.3g} 1/angstrom: distances below 0.5 angstrom merge",
                ReasonCode.Q_RANGE,
            )
        )
    if no_variance:
        quality = quality.note(
            Reason("the pattern has no variances: G(r) has none", ReasonCode.VARIANCE_MISSING)
        )
    if subtracted.pattern.completeness < 1.0:
        share = f"{100.0 * subtracted.pattern.completeness:.0f} %"
        quality = quality.suspect(
            Reason(f"only {share} of the planned frames were measured", ReasonCode.INCOMPLETE)
        )
    return quality


def coordination_number(
    pdf: PairDistribution,
    shell: tuple[float, float],
    number_density: float,
    *,
    centre: str | None = None,
    neighbour: str | None = None,
    composition: str | Mapping[str, float] | None = None,
) -> Estimate:
    """Count the neighbours in a shell, N = integral of (r G(r) + 4 pi rho_0 r^2) dr over it.

    For samples of several elements the pair's share of the scattering is divided out; the shell must then
    hold no other pairs. The interval is mostly that of the scale of G(r).

    Parameters
    ----------
    pdf
        With a composition and the uncertainty of its scale.
    shell
        Start and end of the peak [angstrom].
    number_density
        Atoms per volume [1/angstrom^3].
    centre, neighbour
        Symbols of the pair; needed for more than one element.
    composition
        If the PDF has none.

    Raises
    ------
    ReductionError
        If shell, density or pair are invalid, or the uncertainty of the scale is unknown.

    Examples
    --------
    >>> r = np.arange(0.0, 5.0, 0.01)
    >>> peak = 12.0 * np.exp(-0.5 * ((r - 2.5) / 0.1) ** 2) / np.sqrt(2.0 * np.pi) / 0.1
    >>> g = peak / np.maximum(r, 0.01) - 4.0 * np.pi * 0.09 * r
    >>> pdf = PairDistribution(r=r, g=g, composition={"Ni": 1.0}, scale_uncertainty=0.1)
    >>> number = coordination_number(pdf, (2.0, 3.0), 0.09)
    >>> round(number.value, 2), round(number.low, 1), round(number.high, 1)
    (12.0, 10.0, 14.0)
    """
    low, high = shell
    if not (pdf.r[0] <= low < high <= pdf.r[-1] and 0.0 < number_density < 1.0):
        raise ReductionError(
            f"expected a shell within {pdf.r[0]:.3g} to {pdf.r[-1]:.3g} angstrom and a number density "
            f"of atoms [1/angstrom^3], found {low:g} to {high:g} and {number_density:g}"
        )
    if pdf.scale_uncertainty is None:
        raise ReductionError(
            "the scale of this G(r) is not known: no coordination number can be read from it"
        )
    share = _share(dict(pdf.composition) or atom_fractions(composition or {}), centre, neighbour)
    inside = (pdf.r >= low) & (pdf.r <= high)
    r, step = pdf.r[inside], float(np.median(np.diff(pdf.r)))
    from_g, uniform = (
        float(np.sum(r * pdf.g[inside])) * step,
        4.0 * np.pi * number_density * np.sum(r**2) * step,
    )
    counted = 0.0
    if pdf.g_variance is not None:
        # Neighbouring points are correlated over the resolution; as if all were is the upper bound.
        counted = float(np.sum(r * np.sqrt(pdf.g_variance[inside]))) * step
    value = float(from_g + uniform) / share
    spread = NINETY_PERCENT * float(np.hypot(value * pdf.scale_uncertainty, counted / share))
    return Estimate(value=value, low=max(value - spread, 0.0), high=value + spread, unit="1")


def _share(composition: Mapping[str, float], centre: str | None, neighbour: str | None) -> float:
    """Return the weight of one neighbour of a pair in the radial distribution, c f_1 f_2 / <f>^2."""
    elements = list(composition)
    if len(elements) == 1:
        centre, neighbour = centre or elements[0], neighbour or elements[0]
    if centre is None or neighbour is None or {centre, neighbour} - set(elements):
        raise ReductionError(
            f"expected centre and neighbour among {', '.join(elements)}, found {centre} and {neighbour}"
        )
    zero = np.zeros(1)
    factors = {element: float(form_factor(element, zero)[0]) for element in composition}
    mean = sum(fraction * factors[element] for element, fraction in composition.items())
    pairs = 1.0 if centre == neighbour else 2.0
    return pairs * composition[centre] * factors[centre] * factors[neighbour] / mean**2
