import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> ModuleType:
    """Import a script of `tools/`, which is no package."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = tool("lock")
pythons = tool("pythons")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of what the check reads."""
    for name in ("pyproject.toml", *(each.name for each in lock.LOCKS)):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_locks_fit_the_project() -> None:
    assert list(lock.problems(ROOT)) == []


@pytest.mark.parametrize("name", [each.name for each in lock.LOCKS])
def test_a_lock_holds_names_versions_and_markers_only(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not [word for word in ("://", "--", " @ ", "sha256:", "file:", "/") if word in text]


def test_a_floor_above_the_locked_version_is_named(project: Path) -> None:
    replace(project / "pyproject.toml", '"numpy>=2.1"', '"numpy>=99"')
    lock.seal(project)
    found = "\n".join(lock.problems(project))
    assert "requirements.lock: expected numpy>=99 for Python 3.14 on Darwin arm64, found 2." in found
    assert "requirements-oldest.lock: expected numpy>=99 for Python 3.11 on Linux x86_64, found 2." in found


def test_a_requirement_that_no_line_locks_is_named(project: Path) -> None:
    replace(project / "pyproject.toml", '"pyFAI>=2025.12"', '"pyFAI>=2025.12", "not-locked>=1"')
    lock.seal(project)
    found = "\n".join(lock.problems(project))
    assert "expected one version of not-locked for Python 3.12 on Linux aarch64, found 0" in found


def test_a_requirement_of_some_pythons_is_needed_there_only(project: Path) -> None:
    old = '"pyFAI>=2025.12"'
    replace(project / "pyproject.toml", old, f"""{old}, "not-locked; python_version >= '3.14'" """)
    lock.seal(project)
    found = "\n".join(lock.problems(project))
    assert "not-locked for Python 3.14" in found
    assert "not-locked for Python 3.13" not in found


def test_any_change_of_the_tables_asks_for_a_new_lock(project: Path) -> None:
    replace(project / "pyproject.toml", '"rich>=14"', '"rich>=14.0"')
    assert list(lock.problems(project)) == [
        f"{each.name}: made for other dependency tables than those of pyproject.toml" for each in lock.LOCKS
    ]


def test_an_extra_has_its_place_in_all_or_is_excused(project: Path) -> None:
    replace(project / "pyproject.toml", "\nsrreal = ", '\nnew = ["numpy"]\nsrreal = ')
    lock.seal(project)
    assert list(lock.problems(project)) == [
        "the extra new is neither in `all` nor among UNLOCKED in tools/lock.py"
    ]


@pytest.mark.parametrize(
    "line", ["--extra-index-url https://example.org", "numpy @ file:///numpy.whl", "numpy"]
)
def test_a_line_that_is_no_pin_is_named(project: Path, line: str) -> None:
    path = project / "requirements.lock"
    path.write_text(path.read_text(encoding="utf-8") + f"{line}\n", encoding="utf-8")
    assert f"requirements.lock: expected NAME==VERSION ; MARKER, found {line!r}" in list(
        lock.problems(project)
    )


def test_a_missing_lock_is_named(project: Path) -> None:
    (project / "requirements.lock").unlink()
    assert "requirements.lock: missing" in list(lock.problems(project))


def test_a_part_lists_the_core_and_what_its_own_parts_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert lock.main(["list", "demo", "lint"]) == 0
    names = {lock.Requirement(line).name for line in capsys.readouterr().out.splitlines()}
    assert {"bluesky", "ophyd", "pyFAI", "scikit-learn", "ruff"} <= names
    assert not names & {"bluesky-xpdml", "pymatgen", "pytest"}


def test_supported_pythons_are_those_of_the_classifiers() -> None:
    assert [f"3.{minor}" for minor in pythons.supported_minors()] == lock.load_tables(ROOT)["versions"]


def test_pythons_are_found_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    minor = sys.version_info.minor
    (tmp_path / f"python3.{minor}").symlink_to(sys.executable)
    shim = tmp_path / "python3.12"
    if minor != 12:
        shim.write_text("#!/bin/sh\nexit 127\n")
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert tuple(sys.version_info[:3]) in [python.version for python in pythons.find_pythons()]


def test_what_pip_would_install_beside_the_lock_is_named() -> None:
    first = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[2].partition(" ;")[0]
    name, version = first.split("==")
    items = [(name.replace("-", "_").upper(), version), ("Not.Locked", "1.0")]
    report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in items]}
    assert list(pythons._unlocked(report)) == ["not in the lock: not-locked==1.0"]
