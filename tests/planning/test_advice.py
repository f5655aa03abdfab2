"""Advice is bounded, is read from the table, and is refused with a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning import AdviceTable, advise, load_table
from bluesky_xpdml.planning.advice import PRIOR_WEIGHT, expected, predicted_class
from bluesky_xpdml.planning.advice_table import SHIPPED, Cell, gain_of
from bluesky_xpdml.publish import TiledPublisher, derived_run, find_predictions, summary
from bluesky_xpdml.records import Prediction, Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode

WIDTHS = st.floats(0.0, 50.0)
KEY = ("Fe", "xanes", "pdf", "oxidation_state")


@settings(deadline=None)
@given(WIDTHS, WIDTHS)
def test_a_gain_is_the_share_that_is_saved_or_lost(now, after):
    gain = gain_of(now, after)
    assert -1.0 <= gain <= 1.0
    assert np.sign(gain) == np.sign(now - after)
    if now > after:
        assert gain == pytest.approx(1.0 - after / now)


@settings(deadline=None)
@given(st.tuples(WIDTHS, WIDTHS, WIDTHS, WIDTHS), st.integers(1, 500), st.integers(1, 500))
def test_gains_are_bounded(widths, n, n_all):
    now, after, all_now, all_after = widths

    def cell(wide, narrow, count):
        return Cell(
            n=count,
            formulas=count,
            now=wide,
            after=narrow,
            error_now=1.0,
            error_after=0.5,
            standard_error=0.1,
        )

    cells = {
        KEY: {"all": cell(all_now, all_after, n_all), "3": cell(now, after, n)},
        ("all", *KEY[1:]): {"all": cell(all_now, all_after, n_all)},
    }
    start = {"element": "Fe", "technique": "xanes", "descriptors": {"oxidation_state": {"value": 3.0}}}
    (gain,) = advise(start, AdviceTable(cells=cells, recipe={}, data={})).gains
    assert -1.0 <= gain.gain <= 1.0
    assert min(now, all_now) - 1e-9 <= gain.now <= max(now, all_now) + 1e-9
    assert gain.n == n
    assert gain.standard_error >= 0.0


def test_the_best_modality_narrows_most(table, prediction):
    advice = advise(prediction(), table)
    assert [gain.modality for gain in advice.gains] == ["pdf"] * 3 + ["dpdf"] * 3
    best = advice.best("oxidation_state")
    assert (best.modality, best.predicted, best.gain) == ("dpdf", "3", 0.5)
    assert best.error_change == pytest.approx(-0.1)
    assert advise(prediction("pdf"), table).best("bond_length").gain == 0.25


def test_after_both_nothing_is_left_to_measure(table, prediction):
    for technique in ("xanes+pdf", "xanes+dpdf"):
        advice = advise(prediction(technique), table)
        assert advice.gains == ()
        assert advice.best("coordination_number") is None


def test_a_record_and_its_start_document_get_the_same_advice(table, prediction):
    for technique in ("xanes", "pdf", "dpdf"):
        assert advise(prediction(technique), table) == advise(summary(prediction(technique)), table)


def test_a_derived_run_read_back_from_tiled_gets_the_same_advice(tiled_server, prediction):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="planning/advice")
    try:
        answer = prediction(raw="raw-for-advice")
        publisher.publish(derived_run(answer))
        (run,) = find_predictions(publisher.container, "raw-for-advice")
        assert advise(run.metadata["start"]) == advise(answer)
    finally:
        publisher.close()


def test_an_element_without_table_is_refused_with_those_that_have_one(table, prediction):
    with pytest.raises(PlanningError, match=r"no advice for Zn: the table holds Fe, Ni"):
        advise(prediction(element="Zn"), table)


@pytest.mark.parametrize(
    ("technique", "edge"), [("xanes", "L3"), ("dpdf", "K"), ("exafs", "K"), ("raman", "")]
)
def test_techniques_and_edges_outside_the_table_are_refused(table, technique, edge):
    start = {
        "element": "Fe",
        "technique": technique,
        "edge": edge,
        "descriptors": {"bond_length": {"value": 2.0}},
    }
    with pytest.raises(PlanningError, match="was counted on xanes, pdf, dpdf"):
        advise(start, table)


def test_a_failed_prediction_is_refused_with_its_reason(table):
    failed = Prediction(
        technique="xanes",
        element="Fe",
        edge="K",
        quality=Quality().failed(Reason("no edge found", ReasonCode.EDGE_NOT_COVERED)),
    )
    for asked in (failed, summary(failed)):
        with pytest.raises(PlanningError, match="no edge found"):
            advise(asked, table)


@pytest.mark.parametrize(
    "start", [{}, {"technique": "xanes", "element": "Fe"}, {"uid": "a raw run", "plan_name": "count"}]
)
def test_a_document_of_another_kind_is_refused(table, start):
    with pytest.raises(PlanningError, match="start document of a derived run"):
        advise(start, table)


def test_descriptors_without_a_value_are_refused(table):
    start = {"technique": "xanes", "element": "Fe", "descriptors": {"bond_length": {"low": 2.0}}}
    with pytest.raises(PlanningError, match="with a value each"):
        advise(start, table)


def test_only_predicted_descriptors_are_advised_on(table):
    start = {"technique": "pdf", "element": "Fe", "descriptors": {"bond_length": {"value": 2.0}}}
    advice = advise(start, table)
    assert [(gain.descriptor, gain.predicted) for gain in advice.gains] == [("bond_length", "all")]
    with pytest.raises(PlanningError, match="the prediction holds bond_length"):
        advice.best("oxidation_state")


def test_classes_with_few_materials_are_shrunk_to_the_element():
    def counted(n, now, after):
        return Cell(
            n=n, formulas=n, now=now, after=after, error_now=0.4, error_after=0.2, standard_error=0.02
        )

    cells = {KEY: {"all": counted(400, 2.0, 1.0), "2": counted(400, 2.0, 2.0), "5": counted(5, 2.0, 2.0)}}
    table = AdviceTable(cells=cells, recipe={}, data={})
    many, few = expected(table, KEY, "2"), expected(table, KEY, "5")
    assert PRIOR_WEIGHT == 20.0
    assert few.after == pytest.approx((5 * 2.0 + 20 * 1.0) / 25)
    assert few.gain == pytest.approx(1.0 - 1.2 / 2.0)
    assert many.gain == pytest.approx(1.0 - (400 * 2.0 + 20 * 1.0) / 420 / 2.0)
    # What is borrowed is as uncertain as the classes differ: here by half.
    assert few.standard_error == pytest.approx(
        np.sqrt((0.2 * 0.02) ** 2 + 0.8**2 * (0.02**2 + 0.25)), rel=1e-6
    )
    assert many.standard_error < few.standard_error
    assert expected(table, KEY, "7") == expected(table, KEY, "all")


@settings(deadline=None)
@given(st.floats(-3.0, 12.0))
def test_a_value_is_looked_up_under_the_nearest_class(value):
    cell = Cell(n=1, formulas=1, now=1.0, after=1.0, error_now=0.0, error_after=0.0, standard_error=0.0)
    name = predicted_class(
        {"oxidation_state": value}, "oxidation_state", dict.fromkeys(("2", "3", "5", "all"), cell)
    )
    assert abs(float(name) - value) == min(abs(known - value) for known in (2.0, 3.0, 5.0))


def test_a_table_is_read_as_it_was_written(table, tmp_path):
    path = tmp_path / "table.json"
    table.write(path)
    assert load_table(path) == table


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 9}', '{"format": 1, "cells": [{}], "columns": []}', "\x00"]
)
def test_files_of_another_kind_are_refused(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(PlanningError, match=r"table\.json"):
        load_table(path)


def test_the_shipped_table_answers_for_every_element_and_modality(prediction):
    assert SHIPPED.stat().st_size < 100_000
    shipped = load_table()
    assert set(shipped.elements) == {"Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"}
    assert {"folds", "seed", "coverage"} <= set(shipped.recipe)
    assert all(len(digest) == 64 for digest in shipped.data.values())
    for element in shipped.elements:
        for technique in ("xanes", "pdf", "dpdf"):
            for gain in advise(prediction(technique, element)).gains:
                assert -1.0 <= gain.gain <= 1.0
                assert gain.n > 0
                assert 0.0 < gain.standard_error < 1.0
