"""One sample measured both ways, from two files."""

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import load_scattering_samples
from bluesky_xpdml.simulation.pair_distribution import Instrument


@pytest.fixture(scope="module")
def ferrate(tmp_path_factory):
    """G(r) of LaFeO3 as a file."""
    sample = next(each for each in load_scattering_samples() if each.name == "LaFeO3")
    r, g = sample.pair_distribution(r_max=12.0, instrument=Instrument(q_max=22.0))
    path = tmp_path_factory.mktemp("curve") / "LaFeO3.gr"
    np.savetxt(path, np.column_stack([r, g]))
    return path


def test_both_are_answered_together_and_each_alone(xpdml, iron_file, ferrate):
    options = ("--element", "Fe", "--edge", "K", "--composition", "LaFeO3")
    done = xpdml("predict", iron_file, "--pdf", ferrate, *options, "--json")
    assert done.status == 0, done.err
    both, by_spectrum, by_curve = done.objects
    assert [one["technique"] for one in done.objects] == ["xanes+pdf", "xanes", "pdf"]
    assert [model["name"] for model in both["models"]] == ["Fe-xanes+pdf", "Fe-xanes", "Fe-pdf"]
    lengths = [one["descriptors"]["bond_length"]["value"] for one in (both, by_spectrum, by_curve)]
    assert min(lengths[1:]) - 1e-9 <= lengths[0] <= max(lengths[1:]) + 1e-9
    told = xpdml("predict", iron_file, "--pdf", ferrate, *options)
    assert told.out.index("xanes+pdf") < told.out.index(ferrate.name)


def test_a_curve_that_cannot_be_used_is_done_without(xpdml, iron_file, tmp_path):
    broken = tmp_path / "broken.gr"
    broken.write_text("0.0 1.0\n0.1 1.0\n")
    done = xpdml("predict", iron_file, "--pdf", broken, "--element", "Fe", "--edge", "K", "--json")
    both, by_spectrum, by_curve = done.objects
    assert done.status == 1
    assert by_curve["quality"]["verdict"] == "failed"
    assert both["technique"] == "xanes"
    assert "degraded to xanes: no PDF was measured" in " ".join(both["quality"]["reasons"])
    assert both["descriptors"] == by_spectrum["descriptors"]


def test_a_pattern_belongs_to_one_spectrum(xpdml, iron_file, ferrate):
    done = xpdml("predict", iron_file, iron_file, "--pdf", ferrate, "--element", "Fe")
    assert done.status == 2
    assert "expected one spectrum, found 2" in " ".join(done.err.split())
    done = xpdml("predict", iron_file, "--pdf", ferrate, "--far", ferrate, "--element", "Fe")
    assert done.status == 2
    assert "no joint model" in " ".join(done.err.split())
