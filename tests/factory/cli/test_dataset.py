"""Building data sets from the command line."""

from pathlib import Path

import numpy as np
import pytest

RUTILE = """data_rutile
_cell_length_a 4.594
_cell_length_b 4.594
_cell_length_c 2.959
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Ti 0.0 0.0 0.0
Ti 0.5 0.5 0.5
O 0.305 0.305 0.0
O 0.695 0.695 0.0
O 0.195 0.805 0.5
O 0.805 0.195 0.5
"""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Return a folder with rutile and a spectrum of its first titanium, of FEFF."""
    folder = tmp_path / "inputs"
    path = folder / "rutile" / "0" / "xmu.dat"
    path.parent.mkdir(parents=True)
    (folder / "rutile.cif").write_text(RUTILE)
    energy = np.arange(4960.0, 5010.0, 0.6)
    rows = [f"{e:.3f} {e - 4980:.3f} 0.0 {0.5 + np.arctan(e - 4980) / np.pi:.6E} 1.0 0.0" for e in energy]
    header = "# Abs   Z=22 Rmt= 1.0 Rnm= 1.2 K shell\n# xsedge+ 50, used to normalize mu  4.6E-03\n"
    path.write_text(header + "\n".join(rows) + "\n")
    return folder


def test_a_data_set_is_built_and_shown(xpdml, inputs: Path) -> None:
    command = ("dataset", "build", "--structures", inputs, "--spectra", inputs, "--element", "Ti")
    axis = ("--energy", "Ti=4965:5000:0.25")
    done = xpdml(*command, *axis, "--output", "titanium", "--json")
    assert done.status == 0, done.err
    (answer,) = done.objects
    assert answer["counts"] == {"structures": 1, "sites": {"Ti": 2}, "spectra": {"Ti": 1}}
    assert answer["labelled_now"] == 1
    assert set(answer["milliseconds_a_structure"]) == {"valence", "bonds", "geometry"}
    shown = xpdml("dataset", "show", "titanium", "--json")
    assert shown.objects[0]["files"] == answer["files"]
    table = xpdml("dataset", "show", "titanium")
    assert "labelled sites" in table.out


def test_mistakes_are_answered_in_one_line(xpdml, inputs: Path) -> None:
    command = ("dataset", "build", "--structures", inputs, "--output", "made")
    for more, complaint in (
        (("--element", "Xx"), "expected chemical symbols"),
        (("--element", "Ti", "--energy", "Ti=4965"), "expected ELEMENT=LOW:HIGH:STEP"),
    ):
        done = xpdml(*command, *more)
        assert done.status == 2
        assert complaint in done.err
    missing = xpdml("dataset", "show", "nothing")
    assert (missing.status, missing.out) == (1, "")
    assert "holds no finished data set" in missing.err


def test_the_materials_project_is_not_asked_without_a_key(xpdml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    done = xpdml("dataset", "fetch", "--element", "Fe", "--output", "mp")
    assert done.status == 1
    assert "MP_API_KEY" in done.err
