"""Raw columns become a scan in eV on an ascending axis, or are refused with a reason."""

import numpy as np
import pytest

from bluesky_xpdml.documents import absorption_scan
from bluesky_xpdml.errors import DocumentError, MissingDataError

ENERGY = np.linspace(7000.0, 7200.0, 21)


def test_kev_and_descending_become_ascending_ev():
    i0 = np.arange(1.0, 22.0)
    scan = absorption_scan(energy=ENERGY[::-1] / 1000, energy_unit="keV", i0=i0[::-1], it=i0[::-1] / 2)
    np.testing.assert_allclose(scan.energy, ENERGY)
    np.testing.assert_array_equal(scan.i0, i0)
    np.testing.assert_array_equal(scan.it, i0 / 2)
    assert scan.quality.reasons == ()


def test_repeated_energies_are_averaged_and_counted():
    energy = np.concatenate([ENERGY, ENERGY[:2]])
    mu = np.concatenate([np.ones(21), [3.0, np.nan]])
    scan = absorption_scan(energy=energy, energy_unit="eV", mu=mu)
    assert scan.mu[:3].tolist() == [2.0, 1.0, 1.0]
    assert scan.quality.reasons == ("2 points that repeat an energy were averaged with it",)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -5.0])
def test_points_without_an_energy_are_left_out_and_counted(bad):
    energy = ENERGY.copy()
    energy[3] = bad
    scan = absorption_scan(energy=energy, energy_unit="eV", mu=np.arange(21.0))
    assert scan.energy.size == 20
    assert 3.0 not in scan.mu
    assert scan.quality.reasons == ("1 points without a positive, finite energy were left out",)


def test_nan_in_a_channel_stays_for_the_reduction():
    mu = np.ones(21)
    mu[5] = np.nan
    scan = absorption_scan(energy=ENERGY, energy_unit="eV", mu=mu)
    assert np.isnan(scan.mu[5])


def test_the_given_arrays_are_not_shared():
    mu = np.ones(21)
    scan = absorption_scan(energy=ENERGY, energy_unit="eV", mu=mu)
    mu[:] = 7
    assert scan.mu.max() == 1.0


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ({}, MissingDataError, "no channel at all"),
        ({"i0": np.ones(21)}, MissingDataError, "found i0"),
        ({"it": np.ones(21)}, MissingDataError, "found it"),
        ({"mu": np.ones(20)}, DocumentError, "mu has 20"),
        ({"mu": ["a"] * 21}, DocumentError, "real numbers in mu"),
        ({"mu": np.ones((21, 2))}, DocumentError, "one number a point in mu"),
        ({"mu": np.ones(21) * 1j}, DocumentError, "real numbers in mu"),
        ({"mu": [[1, 2], [3]]}, DocumentError, "one number a point in mu"),
        ({"mu": [10**400] * 21}, DocumentError, "one number a point in mu"),
        ({"mu": np.ones(21), "energy_unit": "mm"}, DocumentError, "found the unit 'mm'"),
        ({"mu": np.ones(21), "energy_unit": ""}, DocumentError, "state the unit"),
        ({"mu": np.ones(21), "completeness": np.nan}, DocumentError, "completeness"),
        ({"mu": np.ones(21), "energy": np.full(21, 7000.0)}, DocumentError, "at least 10 points"),
    ],
)
def test_columns_that_make_no_scan_are_refused(channels, error, message):
    with pytest.raises(error, match=message):
        absorption_scan(**({"energy": ENERGY, "energy_unit": "eV"} | channels))


def test_reference_alone_needs_no_i0():
    scan = absorption_scan(energy=ENERGY, energy_unit="eV", it=np.ones(21), ir=np.ones(21))
    assert scan.i0 is None
