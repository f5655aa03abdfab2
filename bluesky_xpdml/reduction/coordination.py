"""Coordination numbers read directly from G(r), with what the unknown scale leaves of them."""

from collections.abc import Mapping

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import Estimate, PairDistribution
from bluesky_xpdml.reduction.composition import atom_fractions
from bluesky_xpdml.reduction.scattering_factors import form_factor

NINETY_PERCENT = 1.6449
"""Half the width of a 90 % interval in standard deviations."""


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
        Where the peak begins and ends [angstrom].
    number_density
        Atoms per volume [1/angstrom^3].
    centre, neighbour
        Symbols of the pair; needed for more than one element.
    composition
        Where the PDF does not know it.

    Raises
    ------
    ReductionError
        If shell, density or pair make no sense, or the uncertainty of the scale is not known.

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
    """Return which part of the radial distribution one neighbour of a pair makes up."""
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
