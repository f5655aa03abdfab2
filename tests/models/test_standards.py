"""A beamline's own standards move the edge curve as far as they tell, and no further."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import ModelError, TrainingError
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_calibration import calibrated, read_calibrations, write_calibrations
from bluesky_xpdml.models.standards import MeasuredSpectrum, calibrate_edges
from bluesky_xpdml.models.store import BundleStore

Measure = Callable[..., MeasuredSpectrum]


@pytest.fixture(scope="module")
def iron() -> Bundle:
    return BundleStore.default().find("Fe", "K", "xanes")


def at(bundle: Bundle, measure: Measure, error: float, valences: list[float]) -> list[MeasuredSpectrum]:
    """Measure compounds whose edges lie a constant off the bundle's curve."""
    model = bundle.edge_model
    items = []
    for number, valence in enumerate(valences):
        item = measure(f"compound {number}", valence)
        edge = float(np.interp(valence, model.valence, model.edge)) + error
        items.append(replace(item, observation=replace(item.observation, edge=edge, pre_edge_peak=0.0)))
    return items


def test_a_constant_offset_of_standards_moves_the_curve_nearly_as_much(
    iron: Bundle, measured: Measure
) -> None:
    spectra = at(iron, measured, 0.8, [2.0, 2.0, 2.5, 3.0, 3.0, 3.0])
    found = calibrate_edges(iron, spectra)
    moved = calibrated(iron, found).edge_model
    shift = moved.edge - iron.edge_model.edge
    assert np.all((shift[moved.valence <= 3.0] > 0.5) & (shift[moved.valence <= 3.0] < 0.85))
    for standard in found.standards:
        assert (
            abs(standard.state_left_out - standard.valence)
            < abs(standard.state_before - standard.valence) + 0.02
        ), standard
        assert abs(standard.residual) < 0.35


def test_one_standard_moves_the_curve_less_than_many(iron: Bundle, measured: Measure) -> None:
    one, many = (calibrate_edges(iron, at(iron, measured, 0.8, [3.0] * n)) for n in (1, 8))
    assert 0.0 < one.offset < many.offset < 0.8
    assert one.covariance[0][0] > many.covariance[0][0]
    assert one.standards[0].state_left_out == one.standards[0].state_before, "there is no other standard"


def test_a_calibration_is_read_back_and_answers_through_the_store(
    iron: Bundle, measured: Measure, tmp_path: Path
) -> None:
    found = calibrate_edges(iron, at(iron, measured, -0.5, [2.0, 3.0, 3.0]))
    file = tmp_path / "beamline.json"
    write_calibrations(file, [found])
    read = read_calibrations(file)
    assert read == {"Fe": found}
    store = BundleStore.default()
    store = BundleStore(store.folder, calibrations=read)
    expected = calibrated(iron, found).edge_model
    np.testing.assert_allclose(store.find("Fe", "K", "xanes").edge_model.edge, expected.edge)
    manganese, shipped = (each.find("Mn", "K", "xanes").edge_model for each in (store, BundleStore.default()))
    np.testing.assert_array_equal(manganese.edge, shipped.edge)


def test_unusable_standards_and_files_are_refused_with_what_to_do(
    iron: Bundle, measured: Measure, tmp_path: Path
) -> None:
    unknown = [measured("FeO", 2.0, calibrated=False)]
    with pytest.raises(TrainingError, match="on the foil's scale: measure a foil"):
        calibrate_edges(iron, unknown)
    with pytest.raises(TrainingError, match="covers valences 2 to 4"):
        calibrate_edges(iron, at(iron, measured, 0.0, [2.0, 6.0]))
    found = calibrate_edges(iron, at(iron, measured, 0.1, [2.0]))
    with pytest.raises(ModelError, match="run xpdml calibrate again, or pin the bundle"):
        calibrated(iron, replace(found, bundle="Fe-xanes-1"))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ModelError, match="expected what `xpdml calibrate` wrote"):
        read_calibrations(tmp_path / "other.json")
