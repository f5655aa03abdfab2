import numpy as np
import pytest
from scipy.stats import chi2

from bluesky_xpdml.demo.beamline import AxisError, Detection, Source, XasBeamline
from bluesky_xpdml.errors import BeamlineError

STEADY = Source(lifetime=float("inf"), ripple=0.0)


def counts(beamline: XasBeamline) -> np.ndarray:
    beamline.detectors.trigger()
    return np.array([beamline.detectors.read()[key]["value"] for key in ("I0", "It", "Ir", "If")])


def test_counts_scatter_as_poisson_says() -> None:
    beamline = XasBeamline(seed=4, source=STEADY)
    beamline.wheel.set("LaFeO3")
    beamline.mono.set(7130.0)
    expected = beamline.detectors.rates()
    repeats = np.array([counts(beamline) for _ in range(500)])
    statistic = ((repeats - expected) ** 2 / expected).sum(axis=0)
    low, high = chi2.ppf([0.0005, 0.9995], df=len(repeats))
    assert np.all((statistic > low) & (statistic < high))


def test_counts_grow_with_the_exposure() -> None:
    beamline = XasBeamline(source=STEADY)
    one = counts(beamline)
    beamline.detectors.exposure.put(4.0)
    assert counts(beamline) / one == pytest.approx(4.0, rel=0.01)


def test_same_seed_same_counts_other_seed_other_counts() -> None:
    first, again, other = (counts(XasBeamline(seed=seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert np.all(first != other)


def test_transmission_follows_the_absorption_of_the_sample() -> None:
    beamline = XasBeamline(source=STEADY, axis_error=AxisError(offset=0.0, slope=0.0))
    beamline.wheel.set("CaMnO3")
    energies = np.array([6480.0, 6545.0, 6560.0, 6700.0])
    measured = []
    for energy in energies:
        beamline.mono.set(energy)
        rates = beamline.detectors.rates()
        measured.append(np.log(rates[0] / rates[1]))
    expected = beamline.wheel.sample.absorption(energies)
    assert np.ptp(np.array(measured) - expected) < 1e-12


def test_fluorescence_follows_the_edge_and_self_absorption_damps_it() -> None:
    edges = []
    for damping in (0.0, 0.5):
        beamline = XasBeamline(source=STEADY, detection=Detection(self_absorption=damping, scatter=0.0))
        beamline.wheel.set("LaFeO3")
        ratio = []
        for energy in (7125.0, 7300.0):
            beamline.mono.set(energy)
            rates = beamline.detectors.rates()
            ratio.append(rates[3] / rates[0])
        edges.append(ratio[0] / ratio[1])
    assert 1.0 < edges[1] < edges[0]


def test_flux_decays_and_is_of_a_bending_magnet() -> None:
    source = Source()
    assert 1e9 < source.at(7000.0, 0.0) < 1e10
    assert source.at(7000.0, 36000.0) == pytest.approx(source.at(7000.0, 0.0) / np.e, rel=1e-9)


def test_readback_is_wrong_by_the_axis_error() -> None:
    beamline = XasBeamline(axis_error=AxisError(offset=-0.8, slope=1e-4))
    beamline.mono.set(8000.0)
    assert beamline.mono.read()["mono_energy"]["value"] == 8000.0
    assert beamline.mono.photon_energy == pytest.approx(8000.0 - 0.8 + 0.1)


def test_units_stand_in_the_description() -> None:
    beamline = XasBeamline()
    assert beamline.mono.describe()["mono_energy"]["units"] == "eV"
    assert {key["units"] for key in beamline.detectors.describe().values()} == {"counts"}


def test_nothing_is_done_for_an_unknown_sample_or_an_energy_out_of_range() -> None:
    beamline = XasBeamline()
    before = beamline.wheel.position
    with pytest.raises(BeamlineError, match="no sample 'Fe2O3' on the wheel: expected one of Na2TiSiO5"):
        beamline.wheel.set("Fe2O3")
    with pytest.raises(BeamlineError, match="4500 to 9500 eV and was sent to 12000"):
        beamline.mono.set(12000.0)
    assert beamline.wheel.position == before
    with pytest.raises(BeamlineError, match="wheel is empty"):
        XasBeamline(samples=())
