"""The systemd unit and the Containerfile name what exists: options, variables, files and exit statuses."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from bluesky_xpdml.cli.app import app
from bluesky_xpdml.cli.publishing import KEPT

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "deploy" / "xpdml-watch@.service"
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
PAGE = ROOT / "docs" / "how-to" / "operate-a-watcher.md"
PROGRAM = Path(sys.executable).with_name("xpdml")


def unit() -> dict[str, list[str]]:
    """Return the values of each key of the unit."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of a kind in the Containerfile."""
    text = CONTAINERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [
        line.removeprefix(f"{name} ").strip() for line in text.splitlines() if line.startswith(f"{name} ")
    ]


def watch_options() -> set[str]:
    """Return the options of `xpdml watch` and of `xpdml` itself."""
    group = typer.main.get_command(app)
    watch = group.commands["watch"]  # type: ignore[attr-defined]
    return {name for parameter in watch.params for name in parameter.opts}


def test_the_unit_starts_a_command_that_exists() -> None:
    (command,) = unit()["ExecStart"]
    program, name, *arguments = command.split()
    assert (Path(program).name, name) == (PROGRAM.name, "watch")
    assert {each for each in arguments if each.startswith("--")} <= watch_options()


def test_the_unit_waits_longer_than_the_watcher_and_knows_its_exit_status() -> None:
    found = unit()
    patience = re.search(r"--patience (\d+)", found["ExecStart"][0])
    assert patience is not None
    assert int(found["TimeoutStopSec"][0]) >= int(patience[1]) + 30
    assert str(KEPT) in found["SuccessExitStatus"]
    assert found["Restart"] == ["on-failure"]
    assert found["KillSignal"] == ["SIGTERM"]


def test_the_page_explains_every_file_and_variable_of_the_unit() -> None:
    page, text = PAGE.read_text(encoding="utf-8"), UNIT.read_text(encoding="utf-8")
    variables = set(re.findall(r"\b(?:WATCH_\w+|TILED_API_KEY)\b", text))
    assert variables >= {"WATCH_SOURCE", "WATCH_OPTIONS", "TILED_API_KEY"}
    assert {name for name in variables if name not in page} == set()
    assert {
        path for path in re.findall(r"/etc/xpdml/%i\S+", text) if path.replace("%i", "fe-xas") not in page
    } == set()


def test_options_on_the_page_exist() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (options,) = re.findall(r'^WATCH_OPTIONS="(.*)"$', page, re.MULTILINE)
    assert {each for each in options.split() if each.startswith("--")} <= watch_options()


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    # Here the program is elsewhere, and systemd looks whether it exists.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/xpdml/bin/xpdml", str(PROGRAM))
    (tmp_path / "xpdml-watch@test.service").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyse, "verify", "--man=no", str(tmp_path / "xpdml-watch@test.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = [line for line in done.stderr.splitlines() if "xpdml" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_container_is_built_of_files_that_exist() -> None:
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    sources = [source for line in copied for source in line]
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    # What the links in the package lead to.
    needed |= {link.readlink().name for link in (ROOT / "bluesky_xpdml").iterdir() if link.is_symlink()}
    assert needed <= set(sources)
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == set(sources)


def test_the_container_has_a_supported_python_and_known_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    images = {line.split()[0] for line in instructions("FROM")}
    (python,) = {re.fullmatch(r"python:(3\.\d+)-slim", image)[1] for image in images}  # type: ignore[index]
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    extras = re.findall(r"/src\[([\w,]+)\]", CONTAINERFILE.read_text(encoding="utf-8"))
    assert set(extras[0].split(",")) <= set(project["optional-dependencies"])
    assert instructions("ENTRYPOINT") == ['["xpdml", "watch"]']
    assert instructions("USER") == ["xpdml"]
