"""`xpdml reduce --json`: a verdict for every file, without a model."""

import csv

import numpy as np
import pytest

KEYS = {"file", "technique", "verdict", "reasons", "codes", "quality"}
KEYS |= {"element", "edge", "e0", "edge_step", "mode"}


def write(path, mu, energy=None):
    energy = np.arange(6950.0, 7400.0) if energy is None else energy
    np.savetxt(path, np.column_stack([energy, mu(energy)]))
    return path


def edge(energy):
    return np.arctan((energy - 7124.0) / 2.0) / np.pi


def test_two_columns_without_names_are_judged_and_named(xpdml, tmp_path):
    write(tmp_path / "iron.txt", edge)
    done = xpdml("reduce", "iron.txt", "--json")
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert set(answer) >= KEYS
    assert (answer["file"], answer["verdict"], answer["mode"]) == ("iron.txt", "good", "mu")
    assert (answer["element"], answer["edge"]) == ("Fe", "K")
    assert answer["e0"] == pytest.approx(7124.0, abs=1.0)
    assert answer["edge_step"] == pytest.approx(1.0, abs=0.05)
    assert any(reason.startswith("element found from the edge: Fe K, 1") for reason in answer["reasons"])
    assert answer["quality"] == {key: answer[key] for key in ("verdict", "reasons", "codes")}
    assert len(answer["codes"]) == len(answer["reasons"])


def test_every_file_has_its_line_and_a_reason_where_it_failed(xpdml, tmp_path):
    rng = np.random.default_rng(1)
    write(tmp_path / "good.txt", edge)
    write(tmp_path / "noise.txt", lambda energy: rng.normal(size=energy.size))
    write(tmp_path / "flat.txt", np.zeros_like)
    write(tmp_path / "turned.txt", lambda energy: -edge(energy))
    (tmp_path / "empty.dat").touch()
    (tmp_path / "binary.dat").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "words.csv").write_text("this is\nno table")
    (tmp_path / "folder").mkdir()
    bad = {
        "noise.txt": "no absorption edge",
        "flat.txt": "check that the shutter was open",
        "turned.txt": "I0 and It are not exchanged",
        "empty.dat": "the file is empty",
        "binary.dat": "binary data",
        "words.csv": "expected a table of numbers",
        "folder": "cannot be opened",
        "missing.xdi": "cannot be opened",
    }
    done = xpdml("reduce", *bad, "good.txt", "--json")
    assert done.status == 1
    answers = {answer["file"]: answer for answer in done.objects}
    assert list(answers) == [*bad, "good.txt"]
    for name, reason in bad.items():
        assert set(answers[name]) >= KEYS
        assert answers[name]["verdict"] == "failed"
        assert reason in " | ".join(answers[name]["reasons"])
        assert answers[name]["e0"] is None
    assert answers["good.txt"]["verdict"] == "good"


def test_a_file_that_fails_still_says_what_it_claims_to_be(xpdml, tmp_path):
    (tmp_path / "iron.dat").write_text(
        "# element: Fe\n# edge: K\n# energy mu\n" + "\n".join(f"{8000 + i} {i % 7}" for i in range(90))
    )
    done = xpdml("reduce", "iron.dat", "--json")
    (answer,) = done.objects
    assert (answer["verdict"], answer["element"], answer["edge"]) == ("failed", "Fe", "K")
    assert "misses the Fe K edge" in answer["reasons"][0]


def test_an_l3_edge_is_reduced_and_judged(xpdml, tmp_path):
    energy = np.arange(11400.0, 12000.0)
    write(tmp_path / "platinum.txt", lambda x: np.arctan((x - 11566.0) / 2.5), energy)
    (answer,) = xpdml("reduce", "platinum.txt", "--json").objects
    assert (answer["element"], answer["edge"], answer["verdict"]) == ("Pt", "L3", "good")


def test_spectra_that_staff_judged_are_judged_alike_from_files(xpdml, tmp_path, shared_data):
    folder = shared_data / "experiment" / "quality"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
        scores = [row["score"] for row in csv.DictReader(lines)]
    with np.load(folder / "bmm_spectra.npz") as spectra:
        energies, absorptions = spectra["energy"], spectra["mu"]
    chosen = [*np.flatnonzero(np.array(scores) == "1")[::9], *np.flatnonzero(np.array(scores) == "0")[::5]]
    for index in chosen:
        np.savetxt(tmp_path / f"{index}.dat", np.column_stack([energies[index], absorptions[index]]))
    answers = xpdml("reduce", *(f"{index}.dat" for index in chosen), "--json").objects
    agree = {"1": [], "0": []}
    for index, answer in zip(chosen, answers, strict=True):
        agree[scores[index]].append((answer["verdict"] == "good") == (scores[index] == "1"))
    assert min(map(len, agree.values())) >= 20
    assert np.mean([np.mean(values) for values in agree.values()]) >= 0.9
