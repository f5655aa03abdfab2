"""Predictions from an unfinished scan: it is continued as it ended, and intervals are widened.

The channels of the scan are held at the mean of their last 3 eV up to 60 eV above the metal foil, and the
ordinary reduction and models answer. Beyond that nothing is added, so that the answer converges to the final
one by construction. The edge position alone, until the window of the forests is filled, was tried on the same
measured oxides: it is about as near to the final answer up to 24 eV, and worse from there.

Intervals are widened by `WIDENING`, in quadrature: sqrt(half width^2 + widening^2). It is measured: 116
measured oxides were cut just before each energy, and 90 % of the partial answers lay nearer to the answer of
the whole scan than this (`xpdml bench live` repeats it, `benchmarks/live.md` has the table).
"""

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, Estimate, FloatArray, Prediction
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Descriptor, ReasonCode

TAIL = 3.0
"""The scan is continued by the mean over this much of its end [eV]."""
END = 60.0
"""End of the continued scan [eV above the foil]; nothing beyond enters the features or the calibration."""
STEP = 1.0
"""Distance of the points that are added [eV]."""
SHORTEST_REACH = 18.0
"""Shorter scans may not have reached the edge of an oxide: no answer [eV above the foil]."""

REACHES = (18.0, 20.0, 22.0, 24.0, 26.0, 28.0, 30.0, 32.0, 34.0, 36.0, 38.0)
"""Ends of scans [eV above the foil], for `WIDENING`."""
WIDENING: Mapping[str, tuple[float, ...]] = {
    Descriptor.OXIDATION_STATE: (1.60, 0.91, 0.79, 0.77, 0.62, 0.20, 0.08, 0.03, 0.01, 0.01, 0.0),
    Descriptor.COORDINATION_NUMBER: (0.97, 0.97, 0.95, 0.82, 0.68, 0.46, 0.19, 0.10, 0.03, 0.01, 0.0),
    Descriptor.BOND_LENGTH: (0.13, 0.13, 0.09, 0.09, 0.07, 0.05, 0.02, 0.01, 0.01, 0.0, 0.0),
}
"""90 % quantile of ``|partial - final|`` of scans that end a point before each of `REACHES`, rounded up and
never growing [unit]. Taken from seven elements it holds 80 to 89 % of the eighth's, by energy."""


def continue_scan(scan: AbsorptionScan) -> AbsorptionScan:
    """Continue an unfinished scan as it ended up to `END` above the foil; a longer one is returned unchanged.

    A ReductionError is raised if the foil energy of the element is not tabulated, or the scan has not come
    past the edge.
    """
    foil = _foil(scan.element)
    reached = float(scan.energy[-1]) - foil
    # An axis may be off by several eV: `widen` checks the reach again, once it is calibrated.
    if reached < 0.5 * SHORTEST_REACH:
        raise ReductionError(
            f"the scan has reached {reached:+.1f} eV from the foil's edge: there is an answer from about "
            f"{SHORTEST_REACH:+.0f} eV on",
            ReasonCode.INCOMPLETE,
        )
    added = np.arange(float(scan.energy[-1]) + STEP, foil + END + STEP, STEP)
    if added.size == 0:
        return scan
    last = scan.energy >= scan.energy[-1] - TAIL

    def longer(values: FloatArray) -> FloatArray:
        return np.concatenate([values, np.full(added.size, values[last].mean())])

    changed: dict[str, object] = {}
    for each in fields(scan):
        value = getattr(scan, each.name)
        if _is_channel(value, scan.energy.size):
            changed[each.name] = longer(value)
        elif isinstance(value, Mapping) and value:
            changed[each.name] = {
                key: longer(inner) if _is_channel(inner, scan.energy.size) else inner
                for key, inner in value.items()
            }
    return replace(scan, **(changed | {"energy": np.concatenate([scan.energy, added])}))  # type: ignore[arg-type]


def widen(prediction: Prediction, last_energy: float) -> Prediction:
    """Widen the intervals of a prediction from a continued scan that was measured up to an energy [eV].

    The energy is on the axis as the monochromator gave it. The result has `reach` [eV above the foil] among
    its diagnostics, and no descriptors if the scan has not passed the edge.
    """
    offset = prediction.xanes.axis.offset if prediction.xanes is not None else 0.0
    reach = last_energy + offset - _foil(prediction.element)
    descriptors = (
        {name: _widen_estimate(each, widening(name, reach)) for name, each in prediction.descriptors.items()}
        if reach >= SHORTEST_REACH
        else {}
    )
    return replace(
        prediction, descriptors=descriptors, diagnostics={**prediction.diagnostics, "reach": reach}
    )


def widening(name: str, reach: float) -> float:
    """Return what a scan that ends at `reach` [eV above the foil] adds to the half width of a 90 % interval.

    It is added in quadrature; descriptors that `WIDENING` does not hold are not widened.
    """
    if name not in WIDENING:
        return 0.0
    return float(np.interp(reach, REACHES, WIDENING[name]))


def _widen_estimate(descriptor: Estimate, more: float) -> Estimate:
    below, above = descriptor.value - descriptor.low, descriptor.high - descriptor.value
    return replace(
        descriptor,
        low=max(descriptor.value - float(np.hypot(below, more)), 0.0),
        high=descriptor.value + float(np.hypot(above, more)),
    )


def _is_channel(value: object, size: int) -> bool:
    return isinstance(value, np.ndarray) and value.shape == (size,)


def _foil(element: str) -> float:
    if element not in FOIL_ENERGIES:
        known = ", ".join(FOIL_ENERGIES)
        raise ReductionError(
            f"expected one of {known} for a live answer, found {element or 'no element'}: wait for the end",
            ReasonCode.ELEMENT_MISSING,
        )
    return FOIL_ENERGIES[element]
