"""The features of a spectrum and a pair distribution function side by side."""

import numpy as np

from bluesky_xpdml.features.joint import FEATURE_NAMES, joint_rows


def test_the_features_of_the_curve_stand_behind_those_of_each_spectrum():
    rows = joint_rows(np.zeros((9, 72)), np.arange(1.0, 93.0))
    assert rows.shape == (9, len(FEATURE_NAMES))
    assert np.all(rows[:, :72] == 0.0)
    assert np.all(rows[:, 72:] == np.arange(1.0, 93.0))
