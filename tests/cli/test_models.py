"""Two versions of a bundle: listed, checked by what they answer, compared, and pinned."""

import io
import json
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from bluesky_xpdml.cli.models import compare, pinned_text
from bluesky_xpdml.errors import SettingsError, XpdmlError
from bluesky_xpdml.models.bundle import CARD, FORESTS, MANIFEST, upgrade_manifest, write_bundle
from bluesky_xpdml.models.golden import golden_answers
from bluesky_xpdml.models.store import SHIPPED


def stored_arrays(folder: Path) -> dict[str, dict[str, Any]]:
    with np.load(io.BytesIO(lzma.decompress((folder / FORESTS).read_bytes()))) as archive:
        grouped: dict[str, dict[str, Any]] = {}
        for name in archive.files:
            target, _, key = name.rpartition(".")
            if not name.startswith("tables/"):
                grouped.setdefault(target, {})[key] = archive[name]
    return grouped


def rewritten(folder: Path, golden_shift: float = 0.0, **changes: Any) -> None:
    """Write the shipped iron bundle again, with golden predictions and other entries."""
    source = SHIPPED / "Fe-xanes-1"
    manifest = json.loads((source / MANIFEST).read_text())
    arrays = stored_arrays(source)
    tables, golden = golden_answers(arrays, np.random.default_rng(2).random((20, 90)))
    golden["bond_length"][3][0] += golden_shift
    told = {key: value for key, value in upgrade_manifest(manifest).items() if key not in {"files", "format"}}
    write_bundle(folder, told | {"golden": golden} | changes, arrays, (source / CARD).read_text(), tables)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the shipped iron bundle and one whose edge curve lies 0.8 eV higher."""
    folder = tmp_path_factory.mktemp("two") / "bundles"
    shutil.copytree(SHIPPED / "Fe-xanes-1", folder / "Fe-xanes-1")
    manifest = json.loads((folder / "Fe-xanes-1" / MANIFEST).read_text())
    model = upgrade_manifest(manifest)["edge_model"]
    moved = {**model, "edge": [edge + 0.8 for edge in model["edge"]]}
    recipe = manifest["recipe"] | {"trees": 7}
    rewritten(folder / "Fe-xanes-2", version=2, edge_model=moved, recipe=recipe)
    return folder


@pytest.fixture
def two(bundles: Path, tmp_path: Path) -> Path:
    """Return that folder, beside the test's own settings file."""
    return shutil.copytree(bundles, tmp_path / "bundles")


def test_verify_compares_what_forests_answer_now_with_what_they_answered(xpdml, two: Path):
    rewritten(two / "Fe-xanes-3", golden_shift=0.02, version=3)
    done = xpdml("models", "verify", "--models", two, "--json")
    assert done.status == 1
    plain, golden, moved = done.objects[0]["models"]
    assert (plain["ok"], plain["golden"]) == (True, None)
    assert golden["ok"]
    assert golden["golden"]["n_rows"] == 8
    assert golden["golden"]["deviation"] < 1e-6
    assert not moved["ok"]
    assert moved["golden"]["target"] == "bond_length"
    assert moved["golden"]["deviation"] == pytest.approx(0.02, abs=1e-5)
    table = xpdml("models", "verify", "Fe-xanes-1", "Fe-xanes-2", "--models", two)
    assert table.status == 0
    assert "none: hashes only" in table.out
    assert "8 rows, within" in table.out


def test_going_back_to_an_earlier_bundle_is_one_line(xpdml, two: Path, iron_file: Path, tmp_path: Path):
    settings = tmp_path / "xpdml.toml"
    settings.write_text('# our beamtime\n[models]\nfolder = "bundles" # local\n')
    question = ("predict", iron_file, "--element", "Fe", "--edge", "K", "--json")
    (newest,) = xpdml(*question).objects
    (listed,) = xpdml("models", "list", "--json").objects
    marks = [(m["version"], m["pinned"], m["newest"], m["answers"]) for m in listed["models"]]
    assert marks == [(1, False, False, False), (2, False, True, True)]
    pinned = xpdml("models", "pin", "Fe-xanes", "1", "--json")
    assert pinned.status == 0, pinned.err
    assert settings.read_text() == '# our beamtime\n[models]\nFe-xanes = 1\nfolder = "bundles" # local\n'
    (earlier,) = xpdml(*question).objects
    assert [answer["models"][0]["version"] for answer in (newest, earlier)] == [2, 1]
    assert earlier["analysis"]["settings"]["beamtime"] == {"pins": {"Fe-xanes": 1}}
    assert earlier["analysis"]["resolved_settings"]["values"]["models_folder"]["origin"] == "file"
    assert "pinned, answers" in xpdml("models", "list").out
    absent = xpdml("models", "pin", "Fe-xanes", "5")
    assert absent.status == 1
    assert "there is version 1, 2" in absent.err


def test_two_bundles_are_compared_by_what_they_are_and_what_they_answer(xpdml, two: Path, iron_file: Path):
    names = ("Fe-xanes-1", two / "Fe-xanes-2")
    done = xpdml("models", "compare", *names, "--models", two, "--on", iron_file, "--json")
    assert done.status == 0, done.err
    (told,) = done.objects
    assert told["names"] == ["Fe-xanes-1", "Fe-xanes-2"]
    (recipe,) = told["recipe"]
    assert (recipe["name"], recipe["first"], recipe["second"]) == ("trees", 150, 7)
    assert told["training"] == []
    assert {row["difference"] for row in told["simulated"]} == {0.0}
    assert told["n_compounds"] > 10
    assert told["bytes"] == [sum(f.stat().st_size for f in (two / n).iterdir()) for n in told["names"]]
    (row,) = told["answers"]
    states = [answer["descriptors"]["oxidation_state"]["value"] for answer in row["answers"]]
    # The same edge stands for a lower valence where the curve lies higher.
    assert states[1] < states[0] - 0.05
    assert row["differences"]["oxidation_state"] == pytest.approx(states[1] - states[0])
    table = xpdml("models", "compare", *names, "--models", two, "--on", iron_file)
    assert table.status == 0, table.err
    assert f"{states[1] - states[0]:+.3f}" in table.out
    assert "data: the same" in table.out


@pytest.mark.parametrize(
    ("names", "files", "reason"),
    [
        (("Fe-xanes-1", "Mn-xanes-1"), [], "expected two bundles of the same element, found Fe and Mn"),
        (("Fe-xanes-1", "Fe-pdf-2"), [], "expected two bundles of the same edge"),
        (("Fe-xanes-1", "nowhere"), [], "no bundle 'nowhere': expected a folder, or one of"),
        (("Fe-dpdf_anomalous-2",) * 2, [Path("a.gr")], "--on: expected bundles for xanes, pdf, dpdf, found"),
    ],
    ids=["element", "modality", "absent", "two patterns"],
)
def test_what_cannot_be_compared_is_said(names: tuple[str, str], files: list[Path], reason: str):
    with pytest.raises((XpdmlError, typer.BadParameter), match=re.escape(reason)):
        compare(*names, on=files, json=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[models]\nFe-xanes = 3\n"),
        ("profile = 'xpd'", "profile = 'xpd'\n\n[models]\nFe-xanes = 3\n"),
        ("[models]", "[models]\nFe-xanes = 3\n"),
        ("[models] # a\n'Fe-xanes' = 2 # b\n", "[models] # a\n'Fe-xanes' = 3 # b\n"),
        ('[models]\nMn-xanes = 1\n"Fe-xanes"=2', '[models]\nMn-xanes = 1\n"Fe-xanes"=3'),
        (
            "[models]\n[tiled]\npath = 'Fe-xanes = 2'\n",
            "[models]\nFe-xanes = 3\n[tiled]\npath = 'Fe-xanes = 2'\n",
        ),
        ("[models]\n# Fe-xanes = 2\n", "[models]\nFe-xanes = 3\n# Fe-xanes = 2\n"),
    ],
)
def test_a_pin_changes_one_line(before: str, after: str):
    assert pinned_text(before, "Fe-xanes", 3) == after


def test_names_with_a_plus_are_quoted_and_what_cannot_be_placed_is_left_to_people():
    assert pinned_text("", "Fe-xanes+pdf", 1) == '[models]\n"Fe-xanes+pdf" = 1\n'
    with pytest.raises(SettingsError, match="write the line Fe-xanes = 1 under"):
        pinned_text("models = { Fe-xanes = 2 }\n", "Fe-xanes", 1)
