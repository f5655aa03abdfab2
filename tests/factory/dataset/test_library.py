"""Simulated spectra are read with their labels, or it is said what is missing."""

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SITES_TABLE, SiteSpectra, load_site_spectra, spectra_file

ENERGY = np.arange(7111.0, 7120.0, 0.25)
ROWS: list[dict[str, Any]] = [
    {"id": "b", "site": 3, "element": "Fe", "formula": "Fe2O3", "valence": 3, "cn": 6, "d_mean": 2.03},
    {"id": "a", "site": 0, "element": "Fe", "formula": "FeO", "valence": 2, "cn": 6, "d_mean": 2.16},
    {"id": "a", "site": 0, "element": "Mn", "formula": "MnO", "valence": 7, "cn": 4, "d_mean": 1.6},
    {"id": "c", "site": 1, "element": "Fe", "formula": "FeS2", "valence": "", "cn": "", "d_mean": ""},
]


def write(folder: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """Write three iron spectra, each a constant that tells which, and a table in another order."""
    keys = [("a", 0), ("b", 3), ("c", 1)]
    np.savez(
        folder / spectra_file("Fe"),
        energy=ENERGY.astype(np.float32),
        mu=np.array([np.full(ENERGY.size, number) for number in (1.0, 2.0, 3.0)], dtype=np.float32),
        id=np.array([key[0] for key in keys]),
        site=np.array([key[1] for key in keys]),
        source=np.array(["feff10", "omni", "feff10"]),
    )
    with gzip.open(folder / SITES_TABLE, "wt", newline="") as lines:
        writer = csv.DictWriter(lines, [*rows[0], "only_O"])
        writer.writeheader()
        writer.writerows({**row, "only_O": row["formula"] != "FeS2"} for row in rows)
    return folder


@pytest.fixture
def spectra(tmp_path: Path) -> SiteSpectra:
    return load_site_spectra(write(tmp_path), "Fe")


def test_each_spectrum_gets_its_own_labels(spectra: SiteSpectra) -> None:
    assert len(spectra) == 3
    assert spectra.mu[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert spectra.mu.dtype == spectra.energy.dtype == np.float64
    assert spectra.formula.tolist() == ["FeO", "Fe2O3", "FeS2"]
    np.testing.assert_array_equal(spectra.valence, [2.0, 3.0, np.nan])
    np.testing.assert_array_equal(spectra.coordination_number, [6.0, 6.0, np.nan])
    np.testing.assert_array_equal(spectra.bond_length, [2.16, 2.03, np.nan])
    assert spectra.only_oxygen.tolist() == [True, True, False]
    assert spectra.source.tolist() == ["feff10", "omni", "feff10"]


def test_a_table_without_the_finer_labels_leaves_them_unknown(spectra: SiteSpectra) -> None:
    assert spectra.geometry.tolist() == ["", "", ""]
    for values in (spectra.nnrs, spectra.ocn, spectra.mood):
        np.testing.assert_array_equal(values, [np.nan] * 3)


def test_the_finer_labels_are_read_and_stay_with_their_rows(tmp_path: Path) -> None:
    finer = {
        "FeO": {"d_std": 0.0, "ocn": 6.0, "mood": 3.05, "geometry": "O:6"},
        "Fe2O3": {"d_std": 0.08, "ocn": 4.0, "mood": 2.67, "geometry": "T:6"},
    }
    blank = dict.fromkeys(finer["FeO"], "")
    rows = [{**row, **finer.get(row["formula"], blank)} for row in ROWS]
    spectra = load_site_spectra(write(tmp_path, rows), "Fe").select(np.array([2, 1, 0]))
    assert spectra.geometry.tolist() == ["", "T:6", "O:6"]
    np.testing.assert_array_equal(spectra.nnrs, [np.nan, 0.08, 0.0])
    np.testing.assert_array_equal(spectra.ocn, [np.nan, 4.0, 6.0])
    np.testing.assert_array_equal(spectra.mood, [np.nan, 2.67, 3.05])


def test_formulas_are_left_out_whole_and_rows_stay_together(spectra: SiteSpectra) -> None:
    rest = spectra.without_formulas(["FeO", "not there"])
    assert rest.formula.tolist() == ["Fe2O3", "FeS2"]
    assert rest.mu[:, 0].tolist() == [2.0, 3.0]
    assert rest.material.tolist() == ["b", "c"]
    assert rest.site.tolist() == [3, 1]
    assert len(spectra.without_formulas([])) == 3
    assert len(spectra.without_formulas(["FeO", "Fe2O3", "FeS2"])) == 0
    assert spectra.select(np.array([2, 0])).formula.tolist() == ["FeS2", "FeO"]


@pytest.mark.parametrize("name", [spectra_file("Fe"), SITES_TABLE])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(TrainingError, match=f"{name} is missing"):
        load_site_spectra(tmp_path, "Fe")


def test_a_spectrum_without_labels_is_named(tmp_path: Path) -> None:
    write(tmp_path, [row for row in ROWS if row["formula"] != "Fe2O3"])
    with pytest.raises(TrainingError, match=r"1 spectra of xanes_Fe.npz have no row .* first \('b', 3\)"):
        load_site_spectra(tmp_path, "Fe")


@pytest.mark.parametrize("element", ["Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"])
def test_development_data_are_sound(shared_data: Path, element: str) -> None:
    spectra = load_site_spectra(shared_data / "simulation", element)
    assert len(spectra) > 300
    assert np.all(np.isfinite(spectra.mu))
    np.testing.assert_allclose(np.diff(spectra.energy), 0.25, atol=1e-6)
    assert len(set(zip(spectra.material, spectra.site, spectra.source, strict=True))) == len(spectra)
    assert {"T:4", "O:6"} <= set(spectra.geometry.tolist())
    assert np.all(np.isfinite(spectra.nnrs) & np.isfinite(spectra.ocn))
    known = spectra.only_oxygen & np.isfinite(spectra.bond_length)
    assert np.all((spectra.bond_length[known] > 1.5) & (spectra.bond_length[known] < 3.2))
