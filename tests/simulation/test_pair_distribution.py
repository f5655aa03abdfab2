"""The calculator against reference curves of diffpy.srreal, and against what must hold for any crystal."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.pair_distribution import (
    Instrument,
    Pairs,
    curve,
    pair_distribution,
    reach_needed,
)
from bluesky_xpdml.simulation.pair_histogram import pair_histogram
from bluesky_xpdml.simulation.structure import Structure, read_cif

GOLDEN = {"total": Pairs.TOTAL, "diff": Pairs.NUMBER, "diff_fw": Pairs.SCATTERING}
LOG = logging.getLogger(__name__)
TOLERANCE = 1e-5
"""Of the largest value of a curve; the tails of peaks alone make up 1e-6."""

RUTILE = Structure(
    lattice=np.diag([4.594, 4.594, 2.959]),
    fractional=np.array(
        [
            [0.0, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.305, 0.305, 0.0],
            [0.695, 0.695, 0.0],
            [0.195, 0.805, 0.5],
            [0.805, 0.195, 0.5],
        ]
    ),
    species=("Ti", "Ti", "O", "O", "O", "O"),
)
PLAIN = Instrument(q_max=22.0)


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "golden" / "pdf_srreal.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_curves_agree_with_the_reference(shared_data: Path, golden: list[dict[str, str]]) -> None:
    folder = shared_data / "golden"
    worst = dict.fromkeys(GOLDEN, 0.0)
    with np.load(folder / "pdf_srreal.npz") as archive:
        for row in golden:
            structure = read_cif((folder / "cif" / f"{row['mp_id']}.cif").read_text())
            instrument = Instrument(q_max=float(row["qmax"]), q_damp=0.03)
            pairs = pair_histogram(structure, reach=reach_needed(30.0, instrument, 0.005))
            for key, which in GOLDEN.items():
                reference = archive[f"{row['mp_id']}_q{row['qmax']}_{key}"]
                r, g = curve(
                    pairs, r_max=30.0, instrument=instrument, u_iso=0.005, which=which, metal=row["metal"]
                )
                np.testing.assert_allclose(r, archive["r"], atol=1e-9)
                deviation = float(np.abs(g - reference).max() / np.abs(reference).max())
                worst[key] = max(worst[key], deviation)
    LOG.info("largest deviations over %d curves each: %s", len(golden), worst)
    assert len(golden) == 56
    assert max(worst.values()) < TOLERANCE


def test_reference_structures_are_read_with_their_density(
    shared_data: Path, golden: list[dict[str, str]]
) -> None:
    for row in golden:
        structure = read_cif((shared_data / "golden" / "cif" / f"{row['mp_id']}.cif").read_text())
        assert len(structure.species) == int(row["natoms"])
        assert len(structure.species) / structure.volume == pytest.approx(float(row["rho0"]), rel=1e-6)


def brute_force(structure: Structure, reach: float) -> FloatArray:
    """Every distance within reach, by a loop that takes no short cut."""
    count = int(np.ceil(reach / np.abs(np.linalg.det(structure.lattice)) ** (1 / 3))) + 4
    steps = np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 3), axis=-1).reshape(-1, 3)
    found = []
    for start in structure.fractional:
        for end in structure.fractional:
            distance = np.linalg.norm((end - start + steps) @ structure.lattice, axis=1)
            found.append(distance[(distance > 1e-9) & (distance < reach)])
    return np.sort(np.concatenate(found))


def test_histogram_holds_every_distance() -> None:
    skewed = Structure(
        lattice=np.array([[3.0, 0.0, 0.0], [2.5, 2.8, 0.0], [-1.5, 1.0, 4.0]]),
        fractional=np.array([[0.1, 0.2, 0.3], [1.6, -0.7, 0.9]]),
        species=("Fe", "O"),
    )
    for structure in (RUTILE, skewed):
        pairs = pair_histogram(structure, reach=8.0)
        distances = brute_force(structure, 8.0)
        assert pairs.values.sum() == pytest.approx((1.0 / distances).sum(), rel=1e-12)
        grid = np.arange(pairs.values.shape[1]) * pairs.r_step
        assert (pairs.values.sum(axis=0) * grid**3).sum() == pytest.approx((distances**2).sum(), rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(
    shift=st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3),
    order=st.permutations(range(6)),
    turn=st.floats(0.0, 6.0),
)
def test_the_setting_of_the_cell_does_not_matter(shift: list[float], order: list[int], turn: float) -> None:
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]]
    )
    other = Structure(
        lattice=RUTILE.lattice @ rotation.T,
        fractional=(RUTILE.fractional + shift)[order],
        species=tuple(RUTILE.species[i] for i in order),
    )
    expected = pair_histogram(RUTILE, reach=7.3)
    found = pair_histogram(other, reach=7.3)
    assert found.species == expected.species
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


def test_supercell_gives_the_same_curve() -> None:
    doubled = Structure(
        lattice=RUTILE.lattice * np.array([[1.0], [1.0], [2.0]]),
        fractional=np.concatenate([(RUTILE.fractional + np.array([0, 0, n])) / [1, 1, 2] for n in (0, 1)]),
        species=RUTILE.species * 2,
    )
    for pairs in Pairs:
        one = pair_distribution(RUTILE, q_max=20.0, u_iso=0.005, r_max=12.0, metal="Ti", pairs=pairs)[1]
        two = pair_distribution(doubled, q_max=20.0, u_iso=0.005, r_max=12.0, metal="Ti", pairs=pairs)[1]
        np.testing.assert_allclose(two, one, atol=1e-9)


def test_pairs_with_and_without_the_metal_add_up() -> None:
    """For a compound of metal and oxygen, all pairs less those with the metal are the oxygen pairs."""
    settings_ = {"q_max": 20.0, "u_iso": 0.005, "r_max": 12.0}
    total = pair_distribution(RUTILE, **settings_)[1]
    metal = pair_distribution(RUTILE, metal="Ti", **settings_)[1]
    rest = total - metal
    r = np.arange(rest.size) * 0.01
    without = Structure(lattice=RUTILE.lattice, fractional=RUTILE.fractional[2:], species=("O",) * 4)
    oxygen = pair_distribution(without, **settings_)[1]
    factor = rest[np.abs(r - 2.78).argmin()] / oxygen[np.abs(r - 2.78).argmin()]
    np.testing.assert_allclose(rest, factor * oxygen, atol=1e-6 * np.abs(total).max())


def test_anomalous_differences_weight_metal_pairs_twice() -> None:
    """The derivative of the total with respect to the metal's factor, taken by a finite difference."""
    pairs = pair_histogram(RUTILE, reach=16.0)
    anomalous = curve(pairs, r_max=10.0, instrument=PLAIN, u_iso=0.005, which=Pairs.ANOMALOUS, metal="Ti")[1]
    partial = curve(pairs, r_max=10.0, instrument=PLAIN, u_iso=0.005, which=Pairs.SCATTERING, metal="Ti")[1]
    total = curve(pairs, r_max=10.0, instrument=PLAIN, u_iso=0.005)[1]
    f_metal, f_oxygen = 21.998073, 7.999706
    mean = (f_metal + 2.0 * f_oxygen) / 3.0
    metal_metal = curve(
        pair_histogram(
            Structure(lattice=RUTILE.lattice, fractional=RUTILE.fractional[:2], species=("Ti", "Ti")),
            reach=16.0,
        ),
        r_max=10.0,
        instrument=PLAIN,
        u_iso=0.005,
    )[1] * (f_metal**2 / (3.0 * mean**2))
    expected = (partial + metal_metal) * mean / (2.0 * f_metal / 3.0)
    np.testing.assert_allclose(anomalous, expected, atol=1e-6 * np.abs(total).max())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"q_max": 0.0}, "expected 0 <= q_min < q_max"),
        ({"q_max": float("nan")}, "expected 0 <= q_min < q_max"),
        ({"q_min": 25.0}, "expected 0 <= q_min < q_max"),
        ({"q_max": 400.0}, "needs an r_step below"),
        ({"u_iso": 0.0}, "positive displacements"),
        ({"u_iso": 1e-5}, "finer r_step"),
        ({"u_iso": {"Ti": 0.005}}, "no u_iso for O"),
        ({"r_max": float("inf")}, "finite range"),
        ({"r_max": -1.0}, "finite range"),
        ({"r_step": 0.0}, "expected 0 < r_step"),
        ({"metal": "Fe"}, "the structure holds O, Ti"),
        ({"pairs": "anomalous"}, "no metal requested"),
        ({"engine": "srreal", "pairs": "anomalous", "metal": "Ti"}, "numpy engine"),
    ],
)
def test_refuses_what_cannot_be_simulated(change: dict[str, object], reason: str) -> None:
    given_: dict[str, object] = {"q_max": 20.0, "u_iso": 0.005, "r_max": 10.0, **change}
    with pytest.raises(SimulationError, match=reason):
        pair_distribution(RUTILE, **given_)  # type: ignore[arg-type]


def test_refuses_doubled_sites_and_short_histograms() -> None:
    doubled = Structure(lattice=3.0 * np.eye(3), fractional=np.zeros((2, 3)), species=("Fe", "Fe"))
    with pytest.raises(SimulationError, match="doubled sites"):
        pair_histogram(doubled, reach=5.0)
    with pytest.raises(SimulationError, match="collect further"):
        curve(pair_histogram(RUTILE, reach=8.0), r_max=8.0, instrument=PLAIN, u_iso=0.005)


def test_unknown_element_is_refused() -> None:
    unknown = Structure(lattice=3.0 * np.eye(3), fractional=np.zeros((1, 3)), species=("Xx",))
    with pytest.raises(SimulationError, match="no scattering factor for 'Xx'"):
        pair_distribution(unknown, q_max=20.0, u_iso=0.005, r_max=10.0)


def test_srreal_gives_the_same() -> None:
    pytest.importorskip("diffpy.srreal", reason="diffpy.srreal comes from conda-forge only")
    for metal, pairs in (("", Pairs.TOTAL), ("Ti", Pairs.SCATTERING), ("Ti", Pairs.NUMBER)):
        ours, theirs = (
            pair_distribution(
                RUTILE,
                q_max=22.0,
                q_damp=0.03,
                u_iso=0.005,
                r_max=20.0,
                metal=metal,
                pairs=pairs,
                engine=engine,
            )[1]
            for engine in ("numpy", "srreal")
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
