"""Any channels are reduced or refused with a reason, and raise nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.xanes import reduce_xanes

ENERGY = np.concatenate(
    [np.arange(7000.0, 7100.0, 5.0), np.arange(7100.0, 7150.0, 2.0), np.arange(7150.0, 7300.0, 6.0)]
)
EDGE = 100.0 * (0.5 + np.arctan((ENERGY - 7120.0) / 2.0) / np.pi) + 20.0
ODD = st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e30, 7.0])


@st.composite
def spoiled(draw):
    values = EDGE * draw(st.sampled_from([1.0, -1.0, 1e-3, 1e150, 1e300, 1e-300]))
    for index in draw(st.lists(st.integers(0, ENERGY.size - 1), max_size=25)):
        values[index] = draw(ODD)
    return values


CHANNEL = spoiled() | arrays(float, ENERGY.size, elements=ODD) | arrays(float, ENERGY.size)
MAYBE = st.none() | CHANNEL


@given(
    st.fixed_dictionaries(dict.fromkeys(("i0", "it", "ir", "fluorescence", "electron_yield", "mu"), MAYBE)),
    st.lists(CHANNEL, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_wild_channels_are_reduced_or_refused(channels, elements):
    named = {f"element {number}": values for number, values in enumerate(elements)}
    scan = AbsorptionScan(energy=ENERGY, **channels, fluorescence_elements=named, element="Fe", edge="K")
    try:
        xanes = reduce_xanes(scan)
    except XpdmlError:
        return
    assert np.isfinite(xanes.norm).all()
