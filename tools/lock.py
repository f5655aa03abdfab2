"""Seal the locks with what they were made for, and check that they still fit `pyproject.toml`.

usage: python tools/lock.py seal | check | list PART...

`seal` is the last step of `make lock`: it writes the digest of the dependency tables into each lock.
`check` is part of `make check` and needs no network. `list` prints the requirements of the core and of extras
and groups, one per line, without those on the project itself: what pip installs before the project.
"""

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

Tables = dict[str, Any]


class Lock(NamedTuple):
    """A lock file and the parts of `pyproject.toml` that it was made for."""

    name: str
    extras: tuple[str, ...]
    groups: tuple[str, ...]
    oldest_only: bool = False


LOCKS = (
    Lock("requirements.lock", ("all",), ("dev",)),
    Lock("requirements-oldest.lock", ("databroker", "demo"), ("test",), oldest_only=True),
)
UNLOCKED = {
    "materials-project": "mp-api holds back packages that the rest needs newer",
    "srreal": "diffpy.srreal has no wheel for Python 3.14, nor for Linux before glibc 2.39",
}
"""Extras that no lock holds and `all` does not bring, with the reason."""
PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "x86_64"},
)
HEADER = """\
# Versions tried together, for Python {first} to {last} on Linux and macOS. `make lock` writes this file.
# dependency tables: {digest}
"""
PIN = re.compile(r"[A-Za-z0-9._-]+==[^\s;]+( ; [^#@]+)?")


def load_tables(root: Path) -> Tables:
    """Return the tables of `pyproject.toml` that decide what is installed."""
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    return {
        "build": content["build-system"]["requires"],
        "python": project["requires-python"],
        "versions": supported_versions(project["classifiers"]),
        "dependencies": project["dependencies"],
        "extras": project["optional-dependencies"],
        "groups": content["dependency-groups"],
    }


def supported_versions(classifiers: Sequence[str]) -> list[str]:
    """Return the minor versions of Python that the classifiers name, oldest first."""
    found = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in classifiers)
    return sorted((match[1] for match in found if match), key=Version)


def digest(tables: Tables) -> str:
    """Return the SHA-256 of the dependency tables, whatever their order and layout."""
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def seal(root: Path) -> None:
    """Write the header of each lock."""
    tables = load_tables(root)
    versions = tables["versions"]
    for lock in LOCKS:
        path = root / lock.name
        pins = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        header = HEADER.format(first=versions[0], last=versions[-1], digest=digest(tables))
        path.write_text(header + "\n".join(pins) + "\n", encoding="utf-8")


def problems(root: Path) -> Iterator[str]:
    """Say where the locks do not fit `pyproject.toml`; nothing is said where they do."""
    tables = load_tables(root)
    yield from _extras_without_a_place(tables)
    for lock in LOCKS:
        path = root / lock.name
        if not path.is_file():
            yield f"{lock.name}: missing"
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from (f"{lock.name}: {problem}" for problem in _lock_problems(lines, lock, tables))


def _extras_without_a_place(tables: Tables) -> Iterator[str]:
    locked = {extra for lock in LOCKS for extra in _extras(lock.extras, tables)}
    for extra in sorted(set(tables["extras"]) - locked - set(UNLOCKED)):
        yield f"the extra {extra} is neither in `all` nor among UNLOCKED in tools/lock.py"


def _lock_problems(lines: Sequence[str], lock: Lock, tables: Tables) -> Iterator[str]:
    if f"# dependency tables: {digest(tables)}" not in lines:
        yield "made for other dependency tables than those of pyproject.toml"
    pins: dict[str, list[Requirement]] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        if not PIN.fullmatch(line):
            yield f"expected NAME==VERSION ; MARKER, found {line!r}"
            continue
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    for environment in _environments(tables, oldest_only=lock.oldest_only):
        for requirement in requirements(lock.extras, lock.groups, tables):
            yield from _misfit(requirement, pins, environment)


def _environments(tables: Tables, *, oldest_only: bool) -> Iterator[Mapping[str, str]]:
    for version in tables["versions"][: 1 if oldest_only else None]:
        for platform in PLATFORMS:
            yield platform | {"python_version": version, "python_full_version": f"{version}.0"}


def _extras(names: Sequence[str], tables: Tables) -> list[str]:
    """Return extras and those that they name in turn."""
    found: list[str] = []
    for name in names:
        inner = [Requirement(text) for text in tables["extras"].get(name, ())]
        found += [
            name,
            *(extra for each in inner if _is_own(each) for extra in _extras([*each.extras], tables)),
        ]
    return found


def _groups(name: str, tables: Tables) -> Iterator[str]:
    for entry in tables["groups"][name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _groups(entry["include-group"], tables)


def requirements(extras: Sequence[str], groups: Sequence[str], tables: Tables) -> list[Requirement]:
    """Return the requirements of the core, of extras and of groups, without those on the project itself."""
    texts = [*tables["dependencies"]]
    texts += [text for extra in _extras(extras, tables) for text in tables["extras"][extra]]
    texts += [text for group in groups for text in _groups(group, tables)]
    found = (Requirement(text) for text in sorted(set(texts)))
    return [requirement for requirement in found if not _is_own(requirement)]


def _is_own(requirement: Requirement) -> bool:
    return canonicalize_name(requirement.name) == "bluesky-xpdml"


def _misfit(
    requirement: Requirement, pins: Mapping[str, Sequence[Requirement]], environment: Mapping[str, str]
) -> Iterator[str]:
    if requirement.marker and not requirement.marker.evaluate(dict(environment)):
        return
    where = "Python {python_version} on {platform_system} {platform_machine}".format(**environment)
    active = [
        pin
        for pin in pins.get(canonicalize_name(requirement.name), ())
        if pin.marker is None or pin.marker.evaluate(dict(environment))
    ]
    if len(active) != 1:
        yield f"expected one version of {requirement.name} for {where}, found {len(active)}"
        return
    version = str(active[0].specifier).removeprefix("==")
    if not requirement.specifier.contains(version, prereleases=True):
        yield f"expected {requirement} for {where}, found {version}"


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands and return the exit status."""
    match arguments:
        case ["seal"]:
            seal(ROOT)
            return 0
        case ["check"]:
            return check(ROOT)
        case ["list", *parts]:
            tables = load_tables(ROOT)
            extras = [part for part in parts if part in tables["extras"]]
            groups = [part for part in parts if part not in extras]
            for requirement in requirements(extras, groups, tables):
                print(requirement)
            return 0
    sys.stderr.write("usage: python tools/lock.py seal | check | list PART...\n")
    return 2


def check(root: Path) -> int:
    """Print where the locks do not fit and return the exit status."""
    found = list(problems(root))
    for problem in found[:20]:
        sys.stderr.write(f"lock: {problem}\n")
    if found:
        sys.stderr.write(
            "lock: the locks do not fit pyproject.toml: run `make lock`, and commit what it writes\n"
        )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
