"""Profiles: which key means what at which beamline, read from one small file each.

The package brings some; others are read from the folders that the environment variable `XPDML_PROFILES` names
or from a file that is named by its path wherever the name of a profile is asked for.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bluesky_xpdml.documents.lookup import look_up, look_up_text, matching
from bluesky_xpdml.documents.profile_files import profile_table, read_profile
from bluesky_xpdml.documents.profile_keys import Profile
from bluesky_xpdml.documents.profile_search import SEARCH_PATH, profile_files
from bluesky_xpdml.errors import MissingDataError

__all__ = [
    "SEARCH_PATH",
    "Profile",
    "detect_profile",
    "load_profile",
    "look_up",
    "look_up_text",
    "matching",
    "profile_file",
    "profile_names",
]


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that the package brings or the search path holds, sorted.

    Examples
    --------
    >>> "generic" in profile_names()
    True
    """
    return tuple(sorted(profile_files(_search_path())))


def load_profile(name: str) -> Profile:
    """Return a profile by its name or by the path of its file.

    Parameters
    ----------
    name
        One of `profile_names()`, or a path that ends with `.toml`.

    Raises
    ------
    MissingDataError
        If there is no such profile.
    FileFormatError
        If its file is no profile; the message says what is wrong.

    Examples
    --------
    >>> load_profile("generic").absorption.streams
    ('primary',)
    """
    return _loaded(name, _search_path())


def profile_file(name: str) -> Path:
    """Return the file of a profile.

    Parameters
    ----------
    name
        One of `profile_names()`.

    Raises
    ------
    MissingDataError
        If there is no such profile.

    Examples
    --------
    >>> profile_file("iss").name
    'iss.toml'
    """
    known = profile_files(_search_path())
    if name not in known:
        raise MissingDataError(f"expected a profile of {', '.join(sorted(known))}, found {name!r}")
    return known[name]


@cache
def _loaded(name: str, search_path: str) -> Profile:
    known = profile_files(search_path)
    if name.endswith(".toml"):
        return read_profile(name, known)
    if name not in known:
        raise MissingDataError(
            f"expected a profile of {', '.join(sorted(known))} or the path of a .toml file, found {name!r}; "
            f"folders of your own are named in {SEARCH_PATH}"
        )
    return read_profile(known[name], known)


def detect_profile(start: Mapping[str, object]) -> Profile:
    """Return the profile that a start document asks for, or whose marks it bears; else the generic one.

    Parameters
    ----------
    start
        The start document of the run.

    Examples
    --------
    >>> detect_profile({"uid": "a", "plan_name": "scan"}).name
    'generic'
    >>> detect_profile({"uid": "a", "sc_dk_field_uid": "b"}).name
    'xpd'
    >>> detect_profile({"uid": "a", "BMM_kafka": {"hint": "xafs transmission"}}).name
    'bmm'
    """
    search_path = _search_path()
    asked = look_up(start, ("xpdml.profile",))
    if isinstance(asked, str) and asked in profile_files(search_path):
        return _loaded(asked, search_path)
    return _loaded(
        next((mark.name for mark in _marks(search_path) if mark.fits(start)), "generic"), search_path
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """What start documents of one convention bear."""

    name: str
    rank: int
    keys: tuple[str, ...]
    values: Mapping[str, re.Pattern[str]]

    def fits(self, start: Mapping[str, object]) -> bool:
        texts = {key: look_up(start, (key,)) for key in self.values}
        return any(look_up(start, (key,)) is not None or key in start for key in self.keys) or any(
            isinstance(text, str) and bool(self.values[key].fullmatch(text.strip()))
            for key, text in texts.items()
        )


@cache
def _marks(search_path: str) -> tuple[_Mark, ...]:
    marks = []
    known = profile_files(search_path)
    for name, file in known.items():
        detect = profile_table(file, known).get("detect")
        if detect is not None:
            values = {key: re.compile(text, re.IGNORECASE) for key, text in detect["values"].items()}
            marks.append(_Mark(name, detect["rank"], tuple(detect["keys"]), values))
    return tuple(sorted(marks, key=lambda mark: mark.rank))


def _search_path() -> str:
    return os.environ.get(SEARCH_PATH, "")
