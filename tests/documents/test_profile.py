"""Profiles are data, and complete."""

import re
from dataclasses import asdict

import pytest

from bluesky_xpdml.documents import detect_profile, load_profile, profile_names
from bluesky_xpdml.errors import MissingDataError


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_loads_and_its_patterns_compile(name):
    profile = load_profile(name)
    assert profile.name == name
    for patterns in asdict(profile.absorption).values():
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            re.compile(pattern.replace("{element}", "Fe"))


def test_an_unknown_profile_is_refused_with_those_there_are():
    with pytest.raises(MissingDataError, match="generic"):
        load_profile("../generic")


@pytest.mark.parametrize(
    "start", [{}, {"xpdml": {"profile": "generic"}}, {"xpdml": {"profile": "none"}}, {"xpdml": 1}]
)
def test_detection_never_fails(start):
    assert detect_profile(start).name == "generic"
