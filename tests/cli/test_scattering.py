"""Reducing and simulating total scattering from the command line."""

from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.reduction.anomalous import HC, dispersion
from bluesky_xpdml.reduction.scattering_factors import compton, form_factor
from bluesky_xpdml.simulation.pair_histogram import pair_histogram
from bluesky_xpdml.simulation.structure import Structure

RUTILE = """data_rutile
_cell_length_a 4.594
_cell_length_b 4.594
_cell_length_c 2.959
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ti Ti1 0.0 0.0 0.0 1
Ti Ti2 0.5 0.5 0.5 1
O O1 0.305 0.305 0.0 1
O O2 0.695 0.695 0.0 1
O O3 0.195 0.805 0.5 1
O O4 0.805 0.195 0.5 1
"""


def read_columns(path: Path) -> np.ndarray:
    """Return the numbers below the header."""
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("#L"))
    return np.loadtxt(lines[first + 1 :])


@pytest.fixture
def rutile(tmp_path: Path) -> Path:
    path = tmp_path / "rutile.cif"
    path.write_text(RUTILE)
    return path


def simulate(xpdml, rutile: Path, name: str, *more: str) -> np.ndarray:
    done = xpdml("simulate", "pdf", rutile, "--q-max", "25", "--u-iso", "0.005", "--output", name, *more)
    assert done.status == 0, done.err
    return read_columns(rutile.parent / name)


def test_the_differential_pdf_leaves_out_the_pairs_without_the_metal(xpdml, rutile):
    total, metal = simulate(xpdml, rutile, "total.gr"), simulate(xpdml, rutile, "ti.gr", "--metal", "Ti")
    first_shell = np.abs(total[:, 0] - 1.95) < 0.15
    assert metal[first_shell, 1].max() == pytest.approx(total[first_shell, 1].max(), rel=0.2)
    oxygens = np.abs(total[:, 0] - 2.53) < 0.05
    assert metal[oxygens, 1].max() < total[oxygens, 1].max()


def test_a_differential_pdf_is_answered_for_the_metal_that_is_named(xpdml, rutile):
    simulate(xpdml, rutile, "ti.gr", "--metal", "Ti")
    unnamed = xpdml("predict", "ti.gr", "--technique", "dpdf", "--json")
    assert unnamed.status == 1
    assert "--element" in unnamed.objects[0]["quality"]["reasons"][0]
    done = xpdml("predict", "ti.gr", "--technique", "dpdf", "--element", "Ti", "--json")
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert (answer["technique"], answer["models"][0]["name"]) == ("dpdf", "Ti-dpdf")
    assert answer["descriptors"]["bond_length"]["value"] == pytest.approx(1.96, abs=0.05)
    assert answer["descriptors"]["coordination_number"]["value"] == pytest.approx(6.0, abs=0.7)


def write_pattern(path: Path, energy: float) -> str:
    """Write what powder of NiO scatters at an energy below the edge, and return the wavelength."""
    faces = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    oxide = Structure(
        lattice=4.177 * np.eye(3),
        fractional=np.concatenate([faces, faces + 0.5]),
        species=("Ni",) * 4 + ("O",) * 4,
    )
    pairs = pair_histogram(oxide, reach=60.0, r_step=0.02)
    q = np.arange(0.4, 8.0, 0.02)
    r = np.arange(pairs.values.shape[1]) * pairs.r_step
    factors = [form_factor(symbol, q) + dispersion(symbol, energy) for symbol in pairs.species]
    intensity = compton("NiO", q) + np.mean([np.abs(f) ** 2 for f in factors], axis=0)
    for first, second, values in zip(pairs.first, pairs.second, pairs.values, strict=True):
        share = 0.25 if first == second else 0.5
        density = values / (8.0 * pairs.r_step) - 4.0 * np.pi * pairs.number_density * share * r
        waves = np.sin(np.outer(q, r)) @ (density * np.exp(-0.5 * (0.08 * r) ** 2)) * pairs.r_step / q
        intensity += (factors[first] * np.conj(factors[second])).real * waves * np.exp(-(q**2) * 0.006)
    np.savetxt(path, np.column_stack([q, intensity, 1e-5 * intensity]), header="Q(A^-1) I sigma")
    return f"{HC / energy:.8f}"


def test_two_patterns_below_the_edge_are_answered_by_the_model_for_their_difference(xpdml, tmp_path: Path):
    near, far = (
        write_pattern(tmp_path / f"{name}.chi", energy)
        for name, energy in (("near", 8323.0), ("far", 8133.0))
    )
    options = (
        "--technique",
        "dpdf",
        "--element",
        "Ni",
        "--composition",
        "NiO",
        "--q-unit",
        "1/A",
        "--wavelength",
        near,
    )
    lacking = xpdml("predict", "near.chi", *options, "--json")
    assert lacking.status == 1
    assert "--far" in lacking.objects[0]["quality"]["reasons"][0]
    done = xpdml(
        "predict",
        "near.chi",
        *options,
        "--far",
        "far.chi",
        "--far-wavelength",
        far,
        "--q-max",
        "7.6",
        "--json",
    )
    assert done.status == 0, done.out
    (answer,) = done.objects
    assert answer["models"][0]["name"] == "Ni-dpdf_anomalous"
    assert answer["descriptors"]["bond_length"]["value"] == pytest.approx(2.09, abs=0.08)


def test_nothing_scientific_is_assumed(xpdml, rutile):
    done = xpdml("simulate", "pdf", rutile, "--output", "a.gr")
    assert done.status == 2
    assert "--q-max" in done.err


def test_a_pattern_is_reduced_and_written_with_its_settings(xpdml, tmp_path: Path):
    from bluesky_xpdml.reduction.scattering_factors import mean_factors

    q = np.arange(0.5, 25.0, 0.02)
    shell = 6.0 * np.exp(-0.003 * q**2) * np.sin(2.5 * q) / (2.5 * q)
    np.savetxt(
        tmp_path / "nickel.chi",
        np.column_stack([10.0 * q, mean_factors("Ni", q).squared_mean * (1.0 + shell)]),
    )
    options = ("--q-unit", "1/nm", "--composition", "Ni", "--q-max", "22", "--r-poly", "0.9")
    done = xpdml("reduce", "nickel.chi", *options, "--output", "reduced", "--plot", "--json")
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert answer["technique"] == "pdf"
    assert answer["settings"]["q_max"] == 22.0
    assert [Path(name).name for name in answer["written"]] == [
        "nickel.gr", "nickel.fq", "nickel.sq", "nickel.iq", "nickel.png",
    ]  # fmt: skip
    g_of_r = read_columns(tmp_path / "reduced" / "nickel.gr")
    assert g_of_r[np.argmax(g_of_r[:, 1]), 0] == pytest.approx(2.5, abs=0.05)
    assert "qmax = 22" in (tmp_path / "reduced" / "nickel.gr").read_text()


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("nickel.chi", (), "--q-unit"),
        ("nickel.chi", ("--q-unit", "1/A"), "composition"),
        ("nickel.chi", ("--q-unit", "2th_deg", "--composition", "Ni"), "wavelength"),
        ("image.npy", ("--composition", "Ni"), "--poni"),
        ("absent.chi", ("--q-unit", "1/A", "--composition", "Ni"), "absent.chi"),
    ],
)
def test_what_is_missing_is_named(xpdml, tmp_path: Path, name, options, reason):
    np.savetxt(tmp_path / "nickel.chi", np.column_stack([np.linspace(0.5, 25.0, 500), np.ones(500)]))
    np.save(tmp_path / "image.npy", np.ones((64, 64)))
    for command in ("reduce", "predict"):
        done = xpdml(command, name, *options, "--json")
        assert done.status == 1
        (answer,) = done.objects
        assert answer["quality"]["verdict"] == "failed"
        assert reason in " ".join(answer["quality"]["reasons"])


def test_a_spectrum_is_reduced_and_written(xpdml, iron_file, tmp_path: Path):
    done = xpdml(
        "reduce", iron_file, "--element", "Fe", "--edge", "K", "--output", "reduced", "--plot", "--json"
    )
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert answer["element"] == "Fe"
    assert answer["edge_step"] == pytest.approx(0.7, abs=0.1)
    columns = read_columns(tmp_path / "reduced" / "lafeo3.xanes")
    assert columns.shape[1] == 4
    assert columns[-50:, 3].mean() == pytest.approx(1.0, abs=0.02)
    assert (tmp_path / "reduced" / "lafeo3.png").read_bytes().startswith(b"\x89PNG")


def test_measured_nickel_shows_its_first_shell(xpdml, shared_data: Path, tmp_path: Path):
    folder = shared_data / "experiment" / "total_scattering" / "ni"
    options = ("--q-unit", "1/A", "--composition", "Ni", "--background", folder / "kapton.chi")
    done = xpdml("reduce", folder / "Ni.chi", *options, "--output", "reduced", "--json")
    assert done.status == 0, done.err
    g_of_r = read_columns(tmp_path / "reduced" / "Ni.gr")
    near = (g_of_r[:, 0] > 2.0) & (g_of_r[:, 0] < 3.0)
    assert g_of_r[near][np.argmax(g_of_r[near, 1]), 0] == pytest.approx(2.49, abs=0.03)
