"""Find the supported Pythons of this computer, and resolve the lock on each of them.

usage: python tools/pythons.py oldest|resolve

`oldest` prints the path of the oldest one. `resolve` asks pip on each of them, but the one it runs on, what
it would install; nothing is installed, and the exit status is 1 if the lock does not resolve somewhere. A
Python is looked for as the system's own, on the path as python3.N, and among the versions of pyenv.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
PROBE = "import json, sys; print(json.dumps([list(sys.version_info[:3]), sys.executable]))"
AT_ONCE = 4
"""Most of the time goes into waiting for the index."""


class Python(NamedTuple):
    """An interpreter."""

    version: tuple[int, ...]
    path: str

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


def supported_minors() -> list[int]:
    """Return the minor versions of Python 3 that the classifiers of the project name."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pattern = re.compile(r"Programming Language :: Python :: 3\.(\d+)")
    matches = map(pattern.fullmatch, content["project"]["classifiers"])
    return sorted(int(match[1]) for match in matches if match)


def find_pythons() -> list[Python]:
    """Return one interpreter of each supported version, oldest first."""
    minors = supported_minors()
    found: dict[tuple[int, ...], Python] = {}
    for candidate in _candidates(minors):
        python = _probe(candidate)
        if python and python.version[0] == 3 and python.version[1] in minors:
            found.setdefault(python.version, python)
    return sorted(found.values())


def _candidates(minors: Sequence[int]) -> Iterator[Path]:
    yield Path("/usr/bin/python3")
    for folder in os.get_exec_path():
        yield from (Path(folder) / f"python3.{minor}" for minor in minors)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted((pyenv / "versions").glob("3.*/bin/python3"))


def _probe(path: Path) -> Python | None:
    """Return the interpreter at a path, if it starts; a shim of pyenv without a version does not."""
    if not os.access(path, os.X_OK):
        return None
    done = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    version, executable = json.loads(done.stdout)
    return Python(tuple(version), executable)


def resolve(python: Python) -> str:
    """Return why the lock does not resolve on an interpreter; an empty text if it does.

    The pip of this environment works on a throw-away environment of that interpreter: Debian's own pip
    refuses even a dry run outside of one.
    """
    with tempfile.TemporaryDirectory(prefix="resolve-") as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "--python", f"{folder}/venv", "--disable-pip-version-check"]
        for command in (
            [python.path, "-m", "venv", "--without-pip", f"{folder}/venv"],
            [*pip, "install", "--dry-run", "--quiet", "--report", str(report), "-r", str(LOCK)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return done.stderr or done.stdout or f"exit status {done.returncode}"
        return "\n".join(_unlocked(json.loads(report.read_text(encoding="utf-8"))))


def _unlocked(report: dict[str, Any]) -> Iterator[str]:
    """Name what pip would install although no line of the lock does."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    locked = {line.partition(";")[0].strip() for line in lines}
    for item in report["install"]:
        metadata = item["metadata"]
        # As the lock spells names: PEP 503.
        pin = f"{re.sub(r'[-_.]+', '-', metadata['name']).lower()}=={metadata['version']}"
        if pin not in locked:
            yield f"not in the lock: {pin}"


def resolve_all() -> int:
    """Resolve the lock on each Python but this one, say what came of it, and return the exit status."""
    own = tuple(sys.version_info[:3])
    others = [python for python in find_pythons() if python.version != own]
    if not others:
        print("resolve: no other supported Python found")
        return 0
    began = time.monotonic()
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for python, problem in zip(others, pool.map(resolve, others), strict=True):
            print(
                f"resolve: Python {python}: {f'FAILED{os.linesep}{problem}' if problem else 'ok'}", flush=True
            )
            failed += bool(problem)
    print(f"resolve: the lock resolves on {len(others) - failed} of {len(others)} other Pythons", end=" ")
    print(f"({time.monotonic() - began:.0f} s)")
    return int(failed > 0)


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands and return the exit status."""
    if arguments == ["oldest"]:
        pythons = find_pythons()
        if pythons:
            print(pythons[0].path)
        return int(not pythons)
    if arguments == ["resolve"]:
        return resolve_all()
    sys.stderr.write("usage: python tools/pythons.py oldest|resolve\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
