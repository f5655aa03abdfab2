"""Cross-validated answers: no formula is seen, and what carries no information gives none."""

import gzip
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.advice import cross_validate, rate_answers, unseen_answers
from bluesky_xpdml.factory.training.advice_data import AdviceRecipe, JointMaterials, load_joint
from bluesky_xpdml.factory.training.materials import PdfAugmentation, load_materials
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.vocabulary import Technique

TINY = AdviceRecipe(
    trees=10,
    length_trees=5,
    columns=0.5,
    folds=3,
    copies=2,
    smallest_class=4,
    most_materials=40,
    augmentation=PdfAugmentation(copies=2),
)


FACES = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]


def cubic(distance: float, number: int) -> str:
    """CIF of an oxide whose metal has four or six neighbours at a distance [angstrom]."""
    shift = 0.5 if number == 6 else 0.25
    length = distance / (0.5 if number == 6 else np.sqrt(3.0) / 4.0)
    sites = [f"Fe {x} {y} {z}" for x, y, z in FACES]
    sites += [f"O {x + shift} {y + shift} {z + shift}" for x, y, z in FACES]
    cell = [f"_cell_length_{axis} {length}" for axis in "abc"]
    cell += [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    columns = ["type_symbol", "fract_x", "fract_y", "fract_z"]
    return "\n".join(["data_x", *cell, "loop_", *(f"_atom_site_{c}" for c in columns), *sites, ""])


@pytest.fixture(scope="module")
def both(library, tmp_path_factory):
    """Return a folder with the spectra of the library, and a structure for each."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(library, folder, dirs_exist_ok=True)
    materials = load_materials(library, "Fe")
    with gzip.open(folder / "structures.jsonl.gz", "wt") as lines:
        for name, distance, number in zip(
            materials.identifier, materials.bond_length, materials.coordination_number, strict=True
        ):
            structure = {"id": str(name), "formula": "FeO", "cif": cubic(float(distance), int(number))}
            lines.write(json.dumps(structure) + "\n")
    return folder


def silent(_done: int, _total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def joint(library):
    """Return 60 materials of 30 formulas: xanes is noise, pdf tells the valence, dpdf the length."""
    materials = load_materials(library, "Fe")
    random = np.random.default_rng(3)
    shape = (2, len(materials), 4)
    noise = [random.normal(size=shape) for _ in range(3)]
    told = materials.valence[None, :, None] + 0.05 * noise[1]
    length = materials.bond_length[None, :, None] + 0.002 * noise[2]
    return JointMaterials(materials=materials, features={"xanes": noise[0], "pdf": told, "dpdf": length})


def test_answers_are_as_good_as_their_columns(joint):
    answers = cross_validate(joint, TINY, progress=silent)
    known = rate_answers(answers, np.ones(answers.fold.size, dtype=bool), 0.9)
    error, width = known.error, known.width
    assert error["pdf", "oxidation_state"].mean() < 0.1 < error["xanes", "oxidation_state"].mean()
    assert width["xanes+pdf", "oxidation_state"].mean() < width["xanes", "oxidation_state"].mean()
    assert width["xanes+dpdf", "bond_length"].mean() < 0.7 * width["xanes", "bond_length"].mean()
    assert all(
        1.0 <= found.min() <= found.max() <= 3.0 for key, found in width.items() if key[1] != "bond_length"
    )
    for found in answers.probabilities.values():
        np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_sets_and_intervals_hold_the_truth_in_nine_cases_of_ten(joint):
    answers = cross_validate(joint, TINY, progress=silent)
    known = rate_answers(answers, np.ones(answers.fold.size, dtype=bool), 0.9)
    inside = known.error["dpdf", "bond_length"] <= known.width["dpdf", "bond_length"] / 2.0 + 1e-9
    assert inside.mean() >= 0.9


def test_a_formula_is_answered_by_forests_that_did_not_see_it(joint):
    # Labels drawn by formula cannot be told from other formulas, however well columns name the formula.
    materials = joint.materials
    names, number = np.unique(materials.formula, return_inverse=True)
    random = np.random.default_rng(7)
    labels = random.permutation(np.arange(names.size) % 2 + 2.0)[number]
    columns = np.repeat(np.eye(names.size)[number][None], 2, axis=0)
    leaky = JointMaterials(
        materials=replace(materials, valence=labels),
        features=dict.fromkeys(("xanes", "pdf", "dpdf"), columns),
    )
    answers = cross_validate(leaky, TINY, progress=silent)
    for formula in names:
        assert np.unique(answers.fold[answers.formula == formula]).size == 1
    right = answers.probabilities["xanes", "oxidation_state"][
        np.arange(answers.fold.size), (answers.truth["oxidation_state"] - 2.0).astype(int)
    ]
    assert right.mean() < 0.55


def test_what_was_answered_is_kept_and_read_back(both, tmp_path):
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    first = unseen_answers(both, "Fe", TINY, cache=tmp_path, progress=progress)
    assert told[-1] == (39, 39)
    again = unseen_answers(both, "Fe", TINY, cache=tmp_path, progress=progress)
    assert told[-1] == (1, 1)
    assert first.formula.tolist() == again.formula.tolist()
    for key, found in first.probabilities.items():
        np.testing.assert_array_equal(found, again.probabilities[key])
    np.testing.assert_array_equal(first.spread["dpdf"], again.spread["dpdf"])
    known = rate_answers(first, np.ones(first.fold.size, dtype=bool), 0.9)
    # Lengths of 4 and 6 neighbours differ by 0.12 angstrom: any of the three tells them.
    assert all(known.error[name, "bond_length"].mean() < 0.06 for name in ("xanes", "pdf", "xanes+dpdf"))


def test_copies_of_both_stand_beside_each_other(both, tmp_path):
    joint = load_joint(both, "Fe", TINY, cache=tmp_path, progress=silent)
    assert len(joint.materials) == 40
    assert joint.columns(Technique("xanes+dpdf")).shape == (2, 40, 282 + BALANCED.size)
    np.testing.assert_array_equal(
        joint.columns(Technique("xanes+pdf"))[..., 282:], joint.columns(Technique("pdf"))
    )
    first, second = joint.columns(Technique("xanes"))
    assert np.all((first != second).any(axis=1)), "every material has two different copies"


def test_too_few_materials_are_refused(library, tmp_path):
    with pytest.raises(TrainingError, match="expected at least 3 formulas"):
        load_joint(library, "Fe", replace(TINY, smallest_class=50), cache=tmp_path, progress=silent)
