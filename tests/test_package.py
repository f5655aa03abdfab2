import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bluesky_xpdml

ROOT = Path(__file__).resolve().parents[1]
LINKS = {"callbacks": "../callbacks", "trained_models": "../trained_models"}


@pytest.mark.parametrize(("name", "target"), LINKS.items())
def test_room_at_the_root_is_linked_into_the_package(name: str, target: str) -> None:
    link = ROOT / "bluesky_xpdml" / name
    assert link.is_symlink()
    assert link.readlink() == Path(target)
    assert (ROOT / name).is_dir()
    assert not (ROOT / name).is_symlink()


def test_all_is_sorted_and_every_name_in_it_exists() -> None:
    assert list(bluesky_xpdml.__all__) == sorted(bluesky_xpdml.__all__)
    missing = [name for name in bluesky_xpdml.__all__ if not hasattr(bluesky_xpdml, name)]
    assert missing == []


def test_version_is_the_one_of_the_distribution() -> None:
    from importlib.metadata import version

    assert bluesky_xpdml.__version__ == version("bluesky-xpdml")


def test_import_loads_nothing_heavy() -> None:
    heavy = {"tiled", "pymatgen", "sklearn", "matplotlib", "onnxruntime", "torch", "pandas"}
    code = f"import sys, bluesky_xpdml; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_import_absolutely() -> None:
    files = [*(ROOT / "bluesky_xpdml").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]
    relative = [
        path
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel, built by the project's own back end."""
    hatchling = pytest.importorskip("hatchling.build", reason="hatchling is not installed (make env)")
    assert hatchling
    out = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(out)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("room", sorted(LINKS))
def test_wheel_holds_every_tracked_file_of_the_linked_rooms(wheel_names: set[str], room: str) -> None:
    expected = {
        f"bluesky_xpdml/{room}/{path.relative_to(ROOT / room).as_posix()}"
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert expected - wheel_names == set()
    assert expected


def test_wheel_says_that_it_is_typed_and_holds_no_tests(wheel_names: set[str]) -> None:
    assert "bluesky_xpdml/py.typed" in wheel_names
    assert not [name for name in wheel_names if name.startswith(("tests/", "docs/"))]
