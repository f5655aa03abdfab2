"""Files of structures and spectra are recognised, or it is said why they are not used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.entries import Dropped, StructureEntry, files_of, read_structures
from bluesky_xpdml.factory.dataset.spectra import SpectrumEntry, read_spectra

ENERGY = np.arange(7100.0, 7150.0, 0.5)
MU = 0.5 + np.arctan(ENERGY - 7120.0) / np.pi
XMU = "# Abs   Z={z} Rmt= 1.2 Rnm= 1.3 {shell}  shell\n# xsedge+ 50, used to normalize mu  1.0E-03\n"


def xmu(path: Path, *, z: int = 26, edge: str = "K") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{e} {e - 7120} 0 {m} 1 0" for e, m in zip(ENERGY, MU, strict=True)]
    path.write_text(XMU.format(z=z, shell=edge) + "\n".join(rows) + "\n")


def npz(path: Path, **changed: Any) -> Path:
    arrays: dict[str, Any] = {
        "energy": ENERGY,
        "mu": np.array([MU, 1.1 * MU]),
        "id": np.array(["a", "b"]),
        "site": np.array([3, 4]),
        "source": np.array(["s", "s"]),
    }
    np.savez(path, **{key: value for key, value in (arrays | changed).items() if value is not None})
    return path


def test_files_come_in_the_order_of_their_names_and_keep_them(tmp_path: Path) -> None:
    for name in ("b.cif", "a/z.json", "notes.txt", "a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [name for _, name in files_of([tmp_path], (".cif", ".json", ".jsonl"))] == [
        "a.jsonl",
        "a/z.json",
        "b.cif",
    ]
    with pytest.raises(TrainingError, match=r"notes.txt is of no known kind: expected .* \.cif"):
        files_of([tmp_path / "notes.txt"], (".cif",))
    with pytest.raises(TrainingError, match="is missing"):
        files_of([tmp_path / "none"], (".cif",))


@pytest.mark.parametrize(
    ("content", "identifiers"),
    [
        ({"lattice": {}, "sites": []}, ["file"]),
        ({"p": {"lattice": {}, "sites": []}, "q": {"cif": "data_q"}}, ["p", "q"]),
        ([{"material_id": "mp-1", "structure": {"lattice": {}, "sites": []}}], ["mp-1"]),
        ([{"cif": "data_y"}, {"cif": "data_z"}], ["file-0", "file-1"]),
    ],
)
def test_json_is_split_into_structures(tmp_path: Path, content: Any, identifiers: list[str]) -> None:
    (tmp_path / "file.json").write_text(json.dumps(content))
    found = list(read_structures([tmp_path]))
    assert all(isinstance(entry, StructureEntry) for entry in found)
    assert [entry.id for entry in found] == identifiers


def test_a_torn_file_is_one_dropped_entry(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"lattice": ')
    (entry,) = read_structures([tmp_path])
    assert isinstance(entry, Dropped)
    assert (entry.kind, entry.file, entry.reason) == ("file", "torn.json", "not JSON")


def test_spectra_of_an_archive_keep_their_sites(tmp_path: Path) -> None:
    first, second = read_spectra([npz(tmp_path / "xanes_Fe.npz")], ["Fe"])
    assert isinstance(first, SpectrumEntry)
    assert isinstance(second, SpectrumEntry)
    assert [(e.id, e.site, e.element, e.source) for e in (first, second)] == [
        ("a", 3, "Fe", "s"),
        ("b", 4, "Fe", "s"),
    ]
    np.testing.assert_array_equal(second.mu, 1.1 * MU)


@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("xanes_Co.npz", {}, "of another element"),
        ("spectra.npz", {}, "name does not say the element"),
        ("xanes_Fe.npz", {"site": None}, "arrays are missing"),
        ("xanes_Fe.npz", {"mu": np.full((2, ENERGY.size), np.nan)}, "not finite, or energies do not rise"),
        ("xanes_Fe.npz", {"energy": ENERGY[::-1]}, "not finite, or energies do not rise"),
        ("xanes_Fe.npz", {"mu": 1e-3 * np.array([MU, MU])}, "not in units of the edge step"),
        ("xanes_Fe.npz", {"energy": ENERGY[:5], "mu": np.array([MU[:5]] * 2)}, "too short"),
    ],
)
def test_unusable_archives_say_why(tmp_path: Path, name: str, changed: dict[str, Any], reason: str) -> None:
    found = list(read_spectra([npz(tmp_path / name, **changed)], ["Fe"]))
    assert {entry.reason for entry in found if isinstance(entry, Dropped)} == {reason}
    assert all(isinstance(entry, Dropped) for entry in found)


def test_a_table_says_whose_spectra_the_files_are(tmp_path: Path) -> None:
    xmu(tmp_path / "run7" / "xmu.dat")
    xmu(tmp_path / "run8" / "xmu.dat")
    (tmp_path / "spectra.csv").write_text("file,id,site,element,source\nrun7/xmu.dat,mp-9,5,Fe,feff10\n")
    first, second = read_spectra([tmp_path], ["Fe"])
    assert isinstance(first, SpectrumEntry)
    assert (first.id, first.site, first.element, first.source) == ("mp-9", 5, "Fe", "feff10")
    assert isinstance(second, Dropped)
    assert second.detail.startswith("run8/xmu.dat has no row")


def test_folders_say_whose_spectrum_a_file_is(tmp_path: Path) -> None:
    xmu(tmp_path / "mp-1" / "4" / "xmu.dat")
    xmu(tmp_path / "mp-1" / "5" / "xmu.dat", edge="L3")
    xmu(tmp_path / "somewhere" / "xmu.dat")
    found = list(read_spectra([tmp_path], ["Fe"]))
    assert isinstance(found[0], SpectrumEntry)
    assert (found[0].id, found[0].site, found[0].element, found[0].source) == ("mp-1", 4, "Fe", "feff")
    reasons = [entry.reason for entry in found if isinstance(entry, Dropped)]
    assert reasons == ["no K-edge XANES", "not read"]


def test_the_header_must_agree_with_the_table(tmp_path: Path) -> None:
    xmu(tmp_path / "run" / "xmu.dat", z=27)
    (tmp_path / "spectra.csv").write_text("file,id,site,element\nrun/xmu.dat,mp-9,5,Fe\n")
    (entry,) = read_spectra([tmp_path], ["Fe"])
    assert isinstance(entry, Dropped)
    assert (entry.reason, entry.detail) == ("element disagrees with the header", "header says Co")
