"""Fit ranges and degrees that are chosen automatically."""

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.reduction.normalisation import fit_ranges


@pytest.mark.parametrize(("end", "degree"), [(800.0, 2), (320.0, 2), (200.0, 1), (95.0, 1), (60.0, 0)])
def test_degree_follows_the_length_of_the_post_edge(end, degree):
    ranges = fit_ranges(np.arange(-150.0, end), "auto", "auto", "auto")
    length = ranges.post_edge[1] - ranges.post_edge[0]
    assert ranges.degree == degree == (2 if length >= 200.0 else 1 if length >= 60.0 else 0)
    assert any("post-edge" in remark for remark in ranges.remarks) == (degree < 2)


@pytest.mark.parametrize(("start", "degree"), [(-150.0, 1), (-60.0, 1), (-42.0, 1), (-30.0, 0), (-12.0, 0)])
def test_short_pre_edges_are_fitted_by_a_constant_with_a_remark(start, degree):
    ranges = fit_ranges(np.arange(start, 400.0, 0.5), "auto", "auto", "auto")
    assert ranges.pre_edge_degree == degree
    assert ranges.pre_edge[0] >= start
    assert any("pre-edge: fitted by a constant" in remark for remark in ranges.remarks) == (degree == 0)


def test_stated_ranges_are_kept():
    ranges = fit_ranges(np.arange(-150.0, 400.0), (-100, -20), (40, 300), 3)
    assert (ranges.pre_edge, ranges.post_edge, ranges.degree) == ((-100.0, -20.0), (40.0, 300.0), 3)


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (np.arange(5.0, 300.0), ("auto", "auto", "auto"), "begins .5 eV from the edge"),
        (np.arange(-100.0, 12.0), ("auto", "auto", "auto"), "ends .11 eV from the edge"),
        (np.arange(-100.0, 300.0), ((-20, -90), "auto", "auto"), "pre-edge range of two ascending numbers"),
        (np.arange(-100.0, 300.0), ("auto", (50, float("nan")), "auto"), "post-edge range"),
        (np.arange(-100.0, 300.0), ("auto", "auto", 7), "degree 0 to 3, found 7"),
    ],
)
def test_impossible_ranges_are_refused(x, arguments, message):
    with pytest.raises(ReductionError, match=message):
        fit_ranges(x, *arguments)
