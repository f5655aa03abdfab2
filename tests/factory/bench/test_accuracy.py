"""The simulated benchmark: what cells give, that they are kept, and what is made of them."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.factory.bench.accuracy import measure_accuracy
from bluesky_xpdml.factory.bench.accuracy_tables import (
    Lookup,
    anchors,
    coverage,
    figures,
    findings,
    joint_against_single,
)
from bluesky_xpdml.factory.bench.cells import ALL, SHARED, Cell, compute_cells, open_store
from bluesky_xpdml.factory.bench.scoring import CellRecipe
from bluesky_xpdml.factory.cli.figures_accuracy import draw_accuracy

ELEMENTS = ("V", "Ni")
KINDS = ("xanes", "pdf", "dpdf", "xanes+pdf", "xanes+dpdf")


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


def made_up(accuracy: dict[str, float], seeds: int = 2) -> dict[Cell, dict]:
    """Return results in which each modality has a known accuracy; the second element is .02 better."""
    results = {}
    for number, element in enumerate(ELEMENTS):
        for modality in KINDS:
            for seed in range(seeds):
                value = accuracy[modality] + 0.02 * number + 0.01 * seed
                share = [0.7, 0.3] if "+" in modality else [1.0]
                classes = {
                    "metrics": {name: [value, 0.4] for name in ("accuracy", "weighted_f1", "macro_f1")},
                    "n_train": 80,
                    "n_test": 20,
                    "importance": share,
                    "held": {"2": [10, 9, 12], "3": [10, 8, 15]},
                }
                lengths = {
                    "metrics": {"rmse": [0.02, 0.1], "mae": [0.01, 0.1], "r2": [value, 0.0]},
                    "n_train": 80,
                    "n_test": 20,
                    "weights": share,
                    "held": {"all": [20, 18]},
                    "width": 0.1,
                }
                cell = Cell(element=element, rows=SHARED, modality=modality, split="formula", seed=seed)
                results[cell] = {
                    "oxidation_state": classes,
                    "coordination_number": classes,
                    "bond_length": lengths,
                }
    return results


PAPER = {"xanes": 0.8, "pdf": 0.7, "dpdf": 0.78, "xanes+pdf": 0.8, "xanes+dpdf": 0.83}


def test_means_and_spreads_are_over_seeds_and_elements():
    rows = figures(made_up(PAPER))
    lookup = Lookup(rows)
    one = lookup("V", SHARED, "pdf", "oxidation_state", "formula", "accuracy")
    assert one["mean"] == pytest.approx(0.705)
    assert one["sd"] == pytest.approx(0.01 / 2**0.5)
    mean = lookup("mean", SHARED, "pdf", "oxidation_state", "formula", "accuracy")
    assert mean["mean"] == pytest.approx(0.715)
    assert mean["sd"] == pytest.approx(0.01 / 2**0.5)
    assert mean["n_test"] == 40


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (PAPER, {"XANES is ahead of PDF": "yes", "XANES dominates xanes+pdf": "yes"}),
        (PAPER, {"XANES dominates xanes+dpdf": "no"}),
        ({**PAPER, "pdf": 0.9}, {"XANES is ahead of PDF": "no", "XANES dominates xanes+pdf": "no"}),
    ],
)
def test_findings_follow_the_figures(accuracy, expected):
    results = made_up(accuracy)
    rows = findings(Lookup(figures(results)), results)
    found = {row["statement"]: row for row in rows if row["what"] == "oxidation state, accuracy"}
    assert {name: found[name]["reproduces"] for name in expected} == expected
    assert found["XANES dominates xanes+pdf"]["note"] == "share of the importance of XANES .700"


def test_a_difference_within_its_error_decides_nothing():
    results = made_up(PAPER)
    for cell, result in results.items():
        if cell.modality == "pdf" and cell.element == "Ni":
            result["oxidation_state"]["metrics"]["accuracy"] = [0.85, 0.4]
    rows = findings(Lookup(figures(results)), results)
    first = next(row for row in rows if row["what"] == "oxidation state, accuracy")
    assert first["reproduces"] == "undecided"


def test_combinations_stand_beside_their_better_part():
    rows = joint_against_single(Lookup(figures(made_up(PAPER))))
    row = next(row for row in rows if (row["combination"], row["what"]) == ("xanes+dpdf", "bond length, R2"))
    assert row["gain over the better"] == ".030"
    assert row["elements not below the better by more than .01"] == "2 of 2"


def test_coverage_pools_elements_and_seeds():
    rows = {(row["modality"], row["target"], row["class"]): row for row in coverage(made_up(PAPER))}
    assert rows["xanes", "oxidation_state", "3"]["held"] == pytest.approx(0.8)
    assert rows["xanes", "oxidation_state", "all"]["held"] == pytest.approx(0.85)
    assert rows["xanes", "oxidation_state", "all"]["members"] == 80
    assert rows["xanes", "bond_length", "all"]["held"] == pytest.approx(0.9)


def test_targets_are_judged_by_their_sign():
    results = {replace(cell, rows=ALL): result for cell, result in made_up(PAPER).items()}
    found = {row["what"]: row for row in anchors(Lookup(figures(results)))}
    assert found["XANES oxidation state, accuracy"]["reached"] == "floor"
    assert found["XANES bond length, RMSE [A]"]["reached"] == "aim"
    assert found["PDF oxidation state, accuracy"]["reached"] == "floor"
    assert found["XANES T4/S5/O6, accuracy"]["reached"] is None


def test_a_cut_line_costs_one_cell_only(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("xanes_Cr.npz", "sites.csv.gz", "structures.jsonl.gz"):
        (folder / name).write_text(f"contents of {name}")
    store = open_store(tmp_path, CellRecipe(), folder, "Cr")
    cells = [Cell(element="Cr", rows=ALL, modality="xanes", split="formula", seed=seed) for seed in (0, 1)]
    store.put(cells[0], {"a": 1})
    path = next(tmp_path.glob("*.jsonl"))
    path.write_text(path.read_text() + '{"cell": {"element": "Cr", "ro')
    store.put(cells[1], {"a": 2})
    again = open_store(tmp_path, CellRecipe(threads=7), folder, "Cr")
    assert [again.get(cell) for cell in cells] == [{"a": 1}, {"a": 2}]
    assert open_store(tmp_path, CellRecipe(leaf=3), folder, "Cr").get(cells[0]) is None


def test_a_picture_is_drawn(tmp_path):
    path = tmp_path / "accuracy.png"
    draw_accuracy(figures(made_up(PAPER)), path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_accuracy_beats_the_commonest_answer_and_goes_on_where_it_stopped(shared_data, tmp_path):
    folder = shared_data / "simulation"
    small = CellRecipe(trees=20, number_trees=20, surroundings_trees=10, fold_trees=10, folds=2, threads=1)
    settings = {"seeds": [0], "splits": ["formula"], "recipe": small, "cache": tmp_path, "progress": silent}
    found = measure_accuracy(folder, ["Cr"], **settings)
    lookup = Lookup(found.figures)
    for modality in KINDS:
        row = lookup("Cr", SHARED, modality, "oxidation_state", "formula", "accuracy")
        assert row["mean"] > row["majority"]
    assert lookup("Cr", ALL, "xanes", "bond_length", "formula", "r2")["mean"] > 0.7
    held = [row for row in coverage(compute_cells(folder, ["Cr"], **settings)) if row["class"] == "all"]
    assert np.mean([row["held"] for row in held]) > 0.8
    computed: list[str] = []
    again = measure_accuracy(
        folder, ["Cr"], **{**settings, "progress": lambda what, _done, _total: computed.append(what)}
    )
    assert again.figures == found.figures
    assert computed.count("cells") == 8
