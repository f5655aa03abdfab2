from pathlib import Path

import numpy as np
import pytest

DESCRIPTORS = {
    "oxidation_state": "e",
    "coordination_number": "1",
    "bond_length": "angstrom",
    "geometry": "1",
    "ocn": "1",
    "nnrs": "angstrom",
    "mood": "angstrom",
}


def test_a_file_is_answered_with_the_fields_scripts_depend_on(xpdml, iron_file):
    done = xpdml("predict", iron_file, "--element", "Fe", "--edge", "K", "--json")
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert answer["file"] == str(iron_file)
    assert (answer["technique"], answer["element"], answer["edge"]) == ("xanes", "Fe", "K")
    assert answer["quality"]["verdict"] == "good"
    assert {name: one["unit"] for name, one in answer["descriptors"].items()} == DESCRIPTORS
    for one in answer["descriptors"].values():
        assert one["low"] <= one["value"] <= one["high"]
    probabilities = answer["descriptors"]["oxidation_state"]["probabilities"]
    assert max(probabilities, key=probabilities.get) == "3"
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-6)
    assert answer["models"][0]["name"] == "Fe-xanes"
    # The simulated monochromator is 1.2 eV off: the foil in the reference channel tells.
    assert answer["analysis"]["settings"]["energy_axis"]["offset"] == pytest.approx(1.2, abs=0.15)


def test_what_cannot_be_used_is_answered_too_and_the_rest_still(xpdml, iron_file, tmp_path):
    broken = tmp_path / "broken.dat"
    broken.write_text("# energy i0 itrans\n7000 1 2\n7001 1\n")
    done = xpdml(
        "predict", broken, tmp_path / "absent.dat", iron_file, "--element", "Fe", "--edge", "K", "--json"
    )
    assert done.status == 1
    verdicts = [answer["quality"]["verdict"] for answer in done.objects]
    assert verdicts == ["failed", "failed", "good"]
    assert all(answer["quality"]["reasons"] for answer in done.objects[:2])
    assert [answer["descriptors"] for answer in done.objects[:2]] == [{}, {}]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--element", "Zn", "--edge", "K"), "Zn"),
        (("--element", "Cu", "--edge", "K"), "misses"),
        (("--element", "Fe", "--edge", "L3"), "L3"),
        (("--element", "Fe", "--edge", "K", "--columns", "energy,i0"), "found i0"),
        (("--element", "Fe", "--edge", "K", "--energy-unit", "keV"), "unit"),
    ],
)
def test_every_refusal_says_why(xpdml, iron_file, options, reason):
    done = xpdml("predict", iron_file, *options, "--json")
    assert done.status == 1
    (answer,) = done.objects
    assert answer["quality"]["verdict"] == "failed"
    assert reason in " ".join(answer["quality"]["reasons"])


def test_an_element_that_nobody_names_is_found_from_the_edge_and_said(xpdml, iron_file):
    done = xpdml("predict", iron_file, "--json")
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert (answer["element"], answer["edge"]) == ("Fe", "K")
    assert any("element found from the edge: Fe K" in reason for reason in answer["quality"]["reasons"])


def test_an_unknown_axis_is_suspect_and_still_answered(xpdml, iron_file, tmp_path):
    table = np.loadtxt(iron_file)
    path = tmp_path / "two_columns.dat"
    np.savetxt(path, np.column_stack([table[:, 0], np.log(table[:, 1] / table[:, 2])]))
    unknown, known = (
        xpdml("predict", path, "--element", "Fe", "--edge", "K", "--json", *more).objects[0]
        for more in ((), ("--energy-offset", "1.2"))
    )
    assert (unknown["quality"]["verdict"], known["quality"]["verdict"]) == ("suspect", "good")
    widths = [
        answer["descriptors"]["oxidation_state"]["high"] - answer["descriptors"]["oxidation_state"]["low"]
        for answer in (unknown, known)
    ]
    assert widths[0] > widths[1]


def test_the_table_and_the_picture_are_for_people(xpdml, iron_file, tmp_path):
    done = xpdml("predict", iron_file, "--element", "Fe", "--edge", "K", "--plot", "picture.png")
    assert done.status == 0, done.err
    assert "good" in done.out
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_measured_magnetite_is_mixed_valent(xpdml, shared_data: Path):
    file = shared_data / "experiment/xanes/xasdatalibrary/Fe/Fe3O4_rt_01.xdi"
    (answer,) = xpdml("predict", file, "--energy-offset", "-0.25", "--json").objects
    assert answer["descriptors"]["oxidation_state"]["value"] == pytest.approx(2.67, abs=0.25)
