"""Small functions of the factory, each with one example that can be checked by hand."""

import numpy as np
import pytest

from bluesky_xpdml.factory.bench.accuracy_tables import short
from bluesky_xpdml.factory.bench.quality import tuning_half
from bluesky_xpdml.factory.bench.report import Report, cell, is_table, timing_row
from bluesky_xpdml.factory.bench.rivals import MIXTURES, learners
from bluesky_xpdml.factory.dataset.entries import json_entries
from bluesky_xpdml.factory.dataset.join import EnergyAxis
from bluesky_xpdml.factory.dataset.library import spectra_file
from bluesky_xpdml.factory.training.advice import nearest_class
from bluesky_xpdml.factory.training.alignment import class_edges
from bluesky_xpdml.factory.training.conformal import (
    class_thresholds,
    conformal_quantile,
    halves_by_formula,
    interval_factor,
)
from bluesky_xpdml.factory.training.demo_samples import measured_curve
from bluesky_xpdml.factory.training.joint import joint_places
from bluesky_xpdml.factory.training.materials import PdfAugmentation, q_max_range
from bluesky_xpdml.factory.training.novelty import fit_novelty
from bluesky_xpdml.factory.training.scores import class_metrics, number_metrics, window_features
from bluesky_xpdml.factory.training.supplement import xanes_places
from bluesky_xpdml.vocabulary import Modality


def test_numbers_are_printed_short():
    assert [short(value) for value in (0.7963, -0.05, 1.0)] == [".796", "-.050", "1.000"]
    assert [cell(value) for value in (0.123456, None, "Fe")] == ["0.1235", "-", "Fe"]


def test_a_report_prints_its_tables_as_markdown():
    rows = [{"what": "a", "ms": 1.5}]
    report = Report(what="speed", conditions={"cores": 2, "more": [{"seed": 1}]}, rows=rows)
    assert is_table([{"seed": 1}])
    assert not is_table([1, 2])
    lines = ["# speed", "", "- cores: 2", "", "| what | ms |", "|---|---|", "| a | 1.5 |"]
    assert report.as_markdown().splitlines() == [*lines, "", "## more", "", "| seed |", "|---|", "| 1 |"]


def test_a_timing_has_the_ratio_of_the_peer():
    assert timing_row("sum", 2.0, "other", 3.0)["ratio"] == 1.5
    assert timing_row("sum", 2.0, None, None)["ratio"] is None


def test_repeated_scans_count_once_in_a_half():
    assert len(tuning_half(["a", "a", "b", "c", "d"])) == 2


def test_mixtures_are_of_known_learners():
    for classes in (True, False):
        known = learners(classes=classes)
        assert all(member in known for members in MIXTURES.values() for member in members)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"id": "a", "cif": ""}], [("a", {"id": "a", "cif": ""})]),
        ({"b": {"lattice": {}, "sites": []}}, [("b", {"lattice": {}, "sites": []})]),
        ({"cif": ""}, [("file", {"cif": ""})]),
        ([[{"x": []}], 3], [("file-0-0", {"x": []}), ("file-1", 3)]),
    ],
)
def test_json_is_split_into_entries(content, expected):
    assert list(json_entries(content, "file")) == expected


def test_an_energy_axis_includes_both_ends():
    points = EnergyAxis(low=7111.0, high=7112.0, step=0.25).points()
    assert points.tolist() == [7111.0, 7111.25, 7111.5, 7111.75, 7112.0]


def test_files_of_spectra_are_named_by_element():
    assert spectra_file("Fe") == "xanes_Fe.npz"


def test_the_nearest_class_is_chosen():
    classes = np.array([2.0, 3.0])
    assert nearest_class(np.array([2.1, 2.5, 2.67, 9.0]), classes).tolist() == [2.0, 2.0, 3.0, 3.0]


def test_edges_of_classes_are_pulled_towards_the_line_through_all():
    assert class_edges(np.array([2.0, 2.0, 3.0]), np.array([9.0, 11.0, 13.0])) == {2.0: 10.0, 3.0: 13.0}


def test_thresholds_and_factors_follow_the_quantiles():
    probabilities = np.repeat([[0.9, 0.1], [0.4, 0.6]], 500, axis=0)
    labels = np.repeat([2.0, 3.0], 500)
    limits = class_thresholds(probabilities, labels, np.array([2.0, 3.0]), 0.9)
    assert limits == pytest.approx([0.1, 0.4])
    assert conformal_quantile([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) == 0.9
    assert interval_factor(np.linspace(-0.2, 0.2, 41), np.full(41, 0.1), 0.9) == 1.9


def test_a_formula_is_in_one_half_only():
    halves = halves_by_formula(np.array(["FeO", "FeO", "NiO", "CoO"]), 0)
    assert halves[0] == halves[1]
    assert set(halves.tolist()) == {0.0, 1.0}


def test_the_curve_of_the_demonstration_passes_its_anchor():
    curve = measured_curve()
    assert np.interp(3.0, curve.valence, curve.edge) == pytest.approx(13.68)


def test_places_of_spectrum_and_curve_are_far_apart():
    assert xanes_places(74)[[0, 35, 36, 71, 72, 73]].tolist() == [0, 35, 0, 35, 72, 72]
    assert joint_places()[[0, 35, 36, 72, 157]].tolist() == [0, 35, 0, 1000, 1085]


def test_anomalous_measurements_end_below_backscattering_at_the_edge():
    low, high = q_max_range("Cu", Modality.DPDF_ANOMALOUS, PdfAugmentation())
    assert (round(low, 2), round(high, 2)) == (7.28, 8.83)
    assert q_max_range("Cu", Modality.PDF, PdfAugmentation()) == PdfAugmentation().q_max


def test_a_novelty_reference_keeps_one_component_less_than_columns():
    rows = np.random.default_rng(0).normal(size=(200, 4)) * [1.0, 1.0, 0.1, 0.1]
    tables, entry = fit_novelty(rows[:150], rows[150:])
    assert (tables["novelty_rows"].shape, entry["n_rows"]) == ((150, 3), 150)


def test_the_window_is_divided_by_its_tail():
    assert window_features(np.full((1, 141), 2.0))[0, [0, -1]].tolist() == [1.0, 1.0]


def test_metrics_stand_beside_those_of_the_trivial_answer():
    train, truth = np.array([2.0, 2.0, 3.0]), np.array([2.0, 3.0])
    assert class_metrics(train, truth, truth)["accuracy"] == (1.0, 0.5)
    assert number_metrics(np.array([2.0]), np.array([1.0, 3.0]), np.array([1.0, 2.0]))["mae"] == (0.5, 1.0)
