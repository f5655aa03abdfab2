"""The doctor says what is installed, and what each extra costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def sizes(tmp_path: Path):
    """Return a function that lists sizes where made-up packages hide the installed ones."""

    def run(**packages: tuple[list[str], int]):
        for variable, (requirements, size) in packages.items():
            name = variable.replace("_", "-")
            folder = tmp_path / f"{variable}-1.0.dist-info"
            folder.mkdir()
            lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {text}" for text in requirements)]
            extras = sorted(
                {text.split("extra == ")[1].strip("\"'") for text in requirements if "extra ==" in text}
            )
            lines += [f"Provides-Extra: {extra}" for extra in extras]
            (folder / "METADATA").write_text("Metadata-Version: 2.4\n" + "\n".join(lines) + "\n")
            (tmp_path / f"{name}.bin").write_bytes(b"\0" * size)
            (folder / "RECORD").write_text(f"{name}.bin,,\nnot-there.pyc,,\n")
        code = "from bluesky_xpdml.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "doctor", "--sizes", "--json"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
        )
        return json.loads(done.stdout)

    return run


def test_sizes_follow_requirements_and_their_markers(sizes):
    found = sizes(
        bluesky_xpdml=(
            [
                "made-up-core[fast]>=1",
                "made-up-windows; sys_platform == 'win32'",
                "bluesky-xpdml[drawing]; extra == 'demo'",
                "made-up-plot; extra == 'drawing'",
                "made-up-absent; extra == 'rare'",
            ],
            0,
        ),
        made_up_core=(
            ["made-up-shared", "made-up-fast; extra == 'fast'", "made-up-slow; extra == 'slow'"],
            3_000_000,
        ),
        made_up_fast=([], 500_000),
        made_up_shared=(["made-up-core"], 1_000_000),
        made_up_plot=(["made-up-shared"], 2_000_000),
    )
    core, extras = found["core"], found["extras"]
    assert core["packages"] == 3
    assert core["largest"] == {"made-up-core": 3.0, "made-up-shared": 1.0, "made-up-fast": 0.5}
    assert core["megabytes"] == pytest.approx(4.5 + core["own_megabytes"], abs=0.11)
    assert core["own_megabytes"] > 5.0
    assert set(extras) == {"demo", "drawing", "rare"}
    assert extras["demo"] == extras["drawing"]
    assert (extras["demo"]["packages"], extras["demo"]["megabytes"], extras["demo"]["missing"]) == (
        1,
        2.0,
        [],
    )
    assert (extras["rare"]["packages"], extras["rare"]["missing"]) == (0, ["made-up-absent"])


def test_what_is_installed_has_every_extra_but_those_that_are_named_apart(xpdml):
    done = xpdml("doctor", "--sizes", "--json")
    assert done.status == 0
    (found,) = done.objects
    assert found["core"]["packages"] > 50
    assert not found["core"]["missing"]
    assert {name for name, extra in found["extras"].items() if extra["missing"]} <= {
        "materials-project",
        "srreal",
    }
    everything = found["extras"]["all"]["packages"]
    assert all(
        found["extras"][name]["packages"] <= everything for name in ("demo", "plan", "scattering", "train")
    )


def test_sizes_are_a_table_for_people(xpdml):
    done = xpdml("doctor", "--sizes")
    assert done.status == 0
    assert "scattering" in done.out
