"""Labelled spectra are read with their labels, or refused with a reason."""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.sources.standards import LABELS, load_standards

Row = dict[str, str]

USUAL = {
    "element": "Fe",
    "oxidation_state": "3",
    "coordination_number": "6",
    "mean_m_o_distance": "2.03",
    "is_oxide": "1",
    "label_confidence": "high",
    "energy_offset": "",
    "group": "Fe_Fe2O3",
}


def write_spectrum(path: Path, *, edge: float = 13.0, end: float = 200.0) -> None:
    x = np.arange(-150.0, end, 0.5)
    mu = 0.5 + np.arctan((x - edge) / 1.5) / np.pi
    path.parent.mkdir(exist_ok=True)
    rows = [f"{FOIL_ENERGIES['Fe'] + energy:.3f} {value:.6f}" for energy, value in zip(x, mu, strict=True)]
    path.write_text("\n".join(["# energy mu", *rows]) + "\n")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes labels over two good files, and returns the folder."""
    write_spectrum(tmp_path / "there" / "a.dat")
    write_spectrum(tmp_path / "there" / "b.dat", edge=11.0)

    def folder(*rows: Row) -> Path:
        with (tmp_path / LABELS).open("w", newline="") as lines:
            writer = csv.DictWriter(lines, ["file", *USUAL])
            writer.writeheader()
            writer.writerows({**USUAL, **row} for row in rows)
        return tmp_path

    return folder


def test_spectra_come_with_their_labels(write: Callable[..., Path]) -> None:
    blank = {"coordination_number": "", "mean_m_o_distance": "", "group": "Fe_X"}
    standards = load_standards(
        write({"file": "there/a.dat"}, {"file": "there/b.dat", "oxidation_state": "2.67", **blank})
    )
    assert not standards.refused
    first, second = standards.spectra
    assert (first.element, first.compound, first.file) == ("Fe", "Fe_Fe2O3", "there/a.dat")
    assert first.source == "there"
    assert (first.valence, first.coordination_number, first.bond_length) == (3.0, 6.0, 2.03)
    assert second.valence == 2.67
    assert math.isnan(second.coordination_number)
    assert math.isnan(second.bond_length)
    assert first.observation.edge - second.observation.edge == pytest.approx(2.0, abs=0.1)


def test_a_stated_offset_is_added_and_calibrates(write: Callable[..., Path]) -> None:
    standards = load_standards(
        write({"file": "there/a.dat"}, {"file": "there/a.dat", "energy_offset": "-1.5"})
    )
    without, stated = standards.spectra
    assert without.stated_offset is None
    assert not without.observation.calibrated
    assert stated.stated_offset == -1.5
    assert stated.observation.calibrated
    assert stated.observation.edge - without.observation.edge == pytest.approx(-1.5, abs=0.05)


def test_an_offset_of_zero_is_an_offset(write: Callable[..., Path]) -> None:
    (only,) = load_standards(write({"file": "there/a.dat", "energy_offset": "0"})).spectra
    assert only.stated_offset == 0.0
    assert only.observation.calibrated


@pytest.mark.parametrize(
    "label",
    [
        {"is_oxide": "0"},
        {"label_confidence": "low"},
        {"oxidation_state": ""},
        {"element": "As"},
    ],
    ids=lambda label: next(iter(label)),
)
def test_what_is_no_oxide_of_known_valence_is_passed_over(write: Callable[..., Path], label: Row) -> None:
    standards = load_standards(write({"file": "there/a.dat", **label}, {"file": "there/b.dat"}))
    assert [item.file for item in standards.spectra] == ["there/b.dat"]
    assert not standards.refused


def test_files_that_cannot_be_used_are_named_with_the_reason(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    write_spectrum(tmp_path / "there" / "short.dat", end=20.0)
    (tmp_path / "there" / "text.dat").write_text("no numbers here\n")
    names = ["there/absent.dat", "there/short.dat", "there/text.dat"]
    standards = load_standards(write(*({"file": name} for name in names), {"file": "there/a.dat"}))
    assert [item.file for item in standards.spectra] == ["there/a.dat"]
    assert sorted(standards.refused) == names
    assert all(len(reason) > 20 for reason in standards.refused.values())
    assert "absent.dat" in standards.refused["there/absent.dat"]
    assert "+30" in standards.refused["there/short.dat"] or "30 eV" in standards.refused["there/short.dat"]


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"labels.csv is missing: expected a table of labelled"):
        load_standards(tmp_path)


def test_every_labelled_oxide_of_the_development_data_is_read(
    shared_data: Path, unread: Mapping[str, str]
) -> None:
    folder = shared_data / "experiment" / "xanes"
    with (folder / LABELS).open(newline="") as lines:
        wanted = [
            row
            for row in csv.DictReader(lines)
            if row["is_oxide"] == "1"
            and row["label_confidence"] != "low"
            and row["oxidation_state"]
            and row["element"] in FOIL_ENERGIES
        ]
    standards = load_standards(folder)
    read = [item.file for item in standards.spectra]
    assert sorted([*read, *standards.refused]) == sorted(row["file"] for row in wanted)
    assert len(read) == len(set(read))
    assert set(standards.refused) == {row["file"] for row in wanted if f"xanes/{row['file']}" in unread}
    by_file = {row["file"]: row for row in wanted}
    for item in standards.spectra:
        row = by_file[item.file]
        assert (item.element, item.compound) == (row["element"], row["group"])
        assert item.valence == float(row["oxidation_state"])
        if row["energy_offset"]:
            assert item.observation.calibrated
    iron = [item for item in standards.spectra if item.element == "Fe" and item.observation.calibrated]
    divalent, trivalent = (
        np.mean([item.observation.edge for item in iron if item.valence == valence]) for valence in (2.0, 3.0)
    )
    assert 1.5 < trivalent - divalent < 5.0
