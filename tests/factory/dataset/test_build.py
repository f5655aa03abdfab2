"""A data set holds what its inputs say, counts what it leaves out, and is the same however it was built."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.build import Built, DatasetSettings, Workers, build_dataset
from bluesky_xpdml.factory.dataset.join import EnergyAxis
from bluesky_xpdml.factory.dataset.library import library_files, load_dataset, load_site_spectra, site_rows
from bluesky_xpdml.factory.dataset.tables import (
    SPECTRA,
    TABLES,
    load_structures,
    read_table,
    structures_file,
)
from bluesky_xpdml.factory.training.materials import load_materials

Inputs = tuple[Path, Path]
SETTINGS = DatasetSettings(
    elements=("Ti",), axes={"Ti": EnergyAxis(low=4965.0, high=5000.0, step=0.25)}, batch=2
)


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


def build(inputs: Inputs, output: Path, settings: DatasetSettings = SETTINGS, **more: Any) -> Built:
    structures, spectra = inputs
    call: dict[str, Any] = {"workers": Workers(), "progress": silent, **more}
    return build_dataset([structures], [spectra], output, settings, **call)


@pytest.fixture(scope="module")
def built(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(inputs, tmp_path_factory.mktemp("dataset") / "titanium")


def test_labels_and_spectra_of_a_site_stand_together(built: Built) -> None:
    found = load_dataset(built.folder, verify=True).spectra("Ti")
    assert list(zip(found.material, found.site, found.source, strict=True)) == [
        ("rutile", 0, "materials project"),
        ("moved", 1, "feff"),
        ("rutile", 0, "feff"),
    ]
    assert found.formula.tolist() == ["TiO2"] * 3
    assert found.valence.tolist() == [4.0] * 3
    assert found.coordination_number.tolist() == [6.0] * 3
    assert found.only_oxygen.tolist() == [True] * 3
    assert found.geometry.tolist() == ["O:6"] * 3
    rutile = 1.9591  # four of 1.949 and two of 1.982 angstrom
    np.testing.assert_allclose(found.bond_length[[0, 2]], rutile, atol=1e-4)
    assert found.nnrs[1] > found.nnrs[0]
    assert found.mood[0] == pytest.approx(np.sqrt(2.0) * 0.39 * 4.594)


def test_spectra_come_onto_the_axis_that_was_asked_for(built: Built) -> None:
    found = load_site_spectra(built.folder, "Ti")
    np.testing.assert_allclose(found.energy, np.arange(4965.0, 5000.1, 0.25))
    for row, position in enumerate((4980.5, 4979.0, 4980.0)):
        relative = found.energy - position
        true = 0.5 + np.arctan(relative / 1.5) / np.pi + 0.3 * np.exp(-(((relative - 3) / 3) ** 2))
        np.testing.assert_allclose(found.mu[row], true, atol=4e-3)


def test_everything_that_was_left_out_is_listed_with_its_reason(built: Built) -> None:
    dropped = load_dataset(built.folder, verify=True).dropped()
    assert {(entry.kind, entry.id, entry.site, entry.reason) for entry in dropped} == {
        ("structure", "rutile", -1, "identifier is taken"),
        ("structure", "stannic", -1, "holds none of the elements"),
        ("structure", "mixed", -1, "disordered"),
        ("structure", "empty", -1, "no structure in the entry"),
        ("structure", "torn", -1, "not readable"),
        ("spectrum", "rutile", 3, "no labelled site of the element"),
        ("spectrum", "moved", 0, "not in units of the edge step"),
        ("spectrum", "unknown", 0, "no structure of this identifier"),
        ("spectrum", "moved", -1, "mean over sites that differ"),
        ("spectrum", "rutile", -1, "no K-edge XANES"),
        ("spectrum", "rutile", -1, "of another element"),
    }
    counted = built.manifest["dropped"]
    assert sum(counted["structure"].values()) == 5
    assert sum(counted["spectrum"].values()) == 6
    assert len(dropped) == 11


def test_sites_without_spectra_and_structures_are_kept(built: Built) -> None:
    found = load_dataset(built.folder, verify=False)
    assert found.elements == ("Ti",)
    assert list(zip(*(found.sites("Ti")[name] for name in ("id", "site")), strict=True)) == [
        ("rutile", 0),
        ("rutile", 1),
        ("moved", 0),
        ("moved", 1),
    ]
    structures = dict(found.structures())
    assert structures["rutile"].species == ("Ti", "Ti", "O", "O", "O", "O")
    assert structures["rutile"].volume == pytest.approx(4.594**2 * 2.959, rel=1e-5)
    assert built.manifest["counts"] == {"structures": 2, "sites": {"Ti": 4}, "spectra": {"Ti": 3}}


class StoppedError(Exception):
    """Ends a build in the middle."""


def test_a_build_that_was_stopped_goes_on_and_ends_the_same(
    inputs: Inputs, built: Built, tmp_path: Path
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if 0 < done < total:
            raise StoppedError

    output = tmp_path / "again"
    with pytest.raises(StoppedError):
        build(inputs, output, progress=stop)
    with pytest.raises(TrainingError, match="holds no finished data set"):
        load_dataset(output, verify=False)
    resumed = build(inputs, output)
    assert resumed.n_resumed == 1
    assert resumed.n_labelled < built.n_labelled
    assert resumed.manifest == built.manifest
    for name in (*TABLES, "manifest.json"):
        assert (output / name).read_bytes() == (built.folder / name).read_bytes()
    assert not (output / "parts").exists()


@pytest.mark.slow
def test_two_processes_build_the_same(inputs: Inputs, built: Built, tmp_path: Path) -> None:
    assert build(inputs, tmp_path / "two", workers=Workers(n_jobs=2)).manifest == built.manifest


@pytest.mark.slow
def test_a_cluster_builds_the_same(inputs: Inputs, built: Built, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = Workers(scheduler=cluster.scheduler_address)
        assert build(inputs, tmp_path / "dask", workers=workers).manifest == built.manifest


def test_a_finished_data_set_is_returned_and_not_overwritten(inputs: Inputs, built: Built) -> None:
    again = build(inputs, built.folder)
    assert (again.manifest, again.n_labelled) == (built.manifest, 0)
    with pytest.raises(TrainingError, match="finished data set that differs in: settings"):
        build(inputs, built.folder, replace(SETTINGS, limit=1))


def test_a_folder_with_other_files_is_left_alone(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TrainingError, match="holds files but no data set"):
        build(inputs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_axis_must_be_named_where_files_differ(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"--energy Ti=LOW:HIGH:STEP; all of them reach from 4960\.00"):
        build(inputs, tmp_path / "none", replace(SETTINGS, axes={}))
    assert not (tmp_path / "none").exists()


def test_spectra_that_do_not_reach_over_the_axis_are_dropped(inputs: Inputs, tmp_path: Path) -> None:
    wide = replace(SETTINGS, axes={"Ti": EnergyAxis(low=4965.0, high=5007.0, step=0.5)}, limit=2)
    found = build(inputs, tmp_path / "wide", wide)
    assert found.manifest["dropped"]["spectrum"]["does not reach over the axis"] == 4
    assert found.manifest["counts"]["structures"] == 1


def test_a_data_set_can_be_built_from_the_spectra_of_another(
    inputs: Inputs, built: Built, tmp_path: Path
) -> None:
    structures, _ = inputs
    found = build((structures, built.folder / SPECTRA), tmp_path / "copy", replace(SETTINGS, axes={}))
    first, second = (read_table(folder, SPECTRA) for folder in (built.folder, found.folder))
    assert [first[name] for name in ("id", "site", "source", "energy", "mu")] == [
        second[name] for name in ("id", "site", "source", "energy", "mu")
    ]


def test_an_altered_table_is_noticed(built: Built, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built.folder, copy)
    (copy / SPECTRA).write_bytes((copy / "sites.parquet").read_bytes())
    with pytest.raises(TrainingError, match="is not what was built"):
        load_dataset(copy, verify=True)
    with pytest.raises(TrainingError, match="has no column energy, file, mu, source"):
        load_site_spectra(copy, "Ti")
    (copy / "manifest.json").write_text(json.dumps({"format": "xpdml-dataset", "version": 2}))
    with pytest.raises(TrainingError, match="of format xpdml-dataset 2: expected xpdml-dataset 1"):
        load_dataset(copy, verify=True)


def test_an_element_that_is_not_there_is_named(built: Built) -> None:
    with pytest.raises(TrainingError, match="no spectra of Fe: expected one of Ti"):
        load_site_spectra(built.folder, "Fe")
    assert library_files(built.folder, "Ti") == ("spectra.parquet", "sites.parquet")


@pytest.mark.parametrize(
    ("axis", "complaint"), [((2.0, 1.0, 0.1), "low:high:step"), ((1.0, 2.0, 0.0), "low:high:step")]
)
def test_an_impossible_axis_is_refused(axis: tuple[float, float, float], complaint: str) -> None:
    low, high, step = axis
    with pytest.raises(TrainingError, match=complaint):
        EnergyAxis(low=low, high=high, step=step).points()


def test_labels_agree_with_the_development_data(shared_data: Path, tmp_path: Path) -> None:
    import csv
    import gzip

    table: dict[tuple[str, int], dict[str, str]] = {}
    with gzip.open(shared_data / "simulation" / "sites.csv.gz", "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            table[row["id"], int(row["site"])] = row
    with gzip.open(shared_data / "simulation" / "structures.jsonl.gz", "rt") as lines:
        few = [
            line for _, line in zip(range(400), lines, strict=False) if len(json.loads(line)["cif"]) < 1400
        ]
    source = tmp_path / "few.jsonl"
    source.write_text("".join(few[:4]))
    settings = DatasetSettings(elements=("Mn", "Fe", "Ti", "V", "Co", "Ni", "Cu", "Cr"))
    built = build_dataset([source], [], tmp_path / "few", settings, workers=Workers(), progress=silent)
    columns = read_table(built.folder, "sites.parquet")
    sites = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert len(sites) >= 4
    for site in sites:
        row = table[site["id"], site["site"]]
        assert (site["element"], site["coordination_number"]) == (row["element"], int(row["cn"]))
        assert site["bond_length"] == pytest.approx(float(row["d_mean"]), abs=2e-4)
        assert site["nnrs"] == pytest.approx(float(row["d_std"]), abs=2e-4)
        assert site["ocn"] == pytest.approx(float(row["ocn"]), abs=2e-3)
        assert row["geometry"] in {"", site["geometry"]}
        if row["bva"] == "ok":
            assert site["valence"] == float(row["valence"])


def test_structures_and_rows_of_sites_are_read_as_those_of_the_other_layout(built: Built) -> None:
    assert structures_file(built.folder) == "structures.parquet"
    assert [name for name, _ in load_structures(built.folder, {"moved"})] == ["moved"]
    rows = site_rows(built.folder, "Ti")
    assert [(row["id"], row["site"], row["valence"], row["cn"], row["only_O"]) for row in rows[:2]] == [
        ("rutile", "0", "4.0", "6", "True"),
        ("rutile", "1", "4.0", "6", "True"),
    ]
    assert rows[0]["csm"]
    materials = load_materials(built.folder, "Ti")
    assert materials.identifier.tolist() == ["rutile", "moved"]
    assert materials.bond_length[0] == pytest.approx(1.9591, abs=1e-4)
