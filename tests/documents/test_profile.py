"""Profiles are data, and complete."""

import re
from dataclasses import asdict

import pytest

from bluesky_xpdml.documents import detect_profile, load_profile, profile_names
from bluesky_xpdml.documents.profile import SEARCH_PATH
from bluesky_xpdml.errors import FileFormatError, MissingDataError


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


OWN = """
extends = "iss"

[detect]
rank = 0
values = { beamline = "mine" }

[fly]
counts_per_degree = 1000
encoder_bits = 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(OWN)
    monkeypatch.setenv(SEARCH_PATH, str(tmp_path))
    return tmp_path


def test_profiles_of_ones_own_are_found_detected_and_extend_others(folder):
    assert "mine" in profile_names()
    profile = detect_profile({"beamline": "Mine"})
    assert profile.name == "mine"
    assert profile.fly.counts_per_degree == 1000
    assert profile.fly.encoder == ("pb9_enc1",)
    assert load_profile(str(folder / "mine.toml")) == profile


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("name = 3", FileFormatError, "a text after name"),
        ('extends = "nobody"', MissingDataError, "found 'nobody'"),
        ('extends = "own"', MissingDataError, "expected extends to name one of"),
        ("[start]\nelement = []", FileFormatError, 'extends = "generic"'),
        ('extends = "generic"\n[sart]\nelement = []', FileFormatError, "found 'sart'"),
        ('extends = "generic"\n[start]\nelemnt = []', FileFormatError, "'elemnt'; check the spelling"),
        ('extends = "generic"\n[start]\nelement = "x"', FileFormatError, "a list of texts for element"),
        ('extends = "generic"\n[absorption]\ni0 = ["("]', FileFormatError, "a regular expression"),
        ('extends = "generic"\n[fly]\ncounts_per_degree = "many"', FileFormatError, "a number for counts"),
        ('extends = "generic"\n[fly]\nencoder_bits = true', FileFormatError, "a whole number for encoder"),
        ('extends = "generic"\n[fly]\ntriggers = { a = 1 }', FileFormatError, "a table of texts"),
        ('extends = "generic"\n[detect]\nrank = "1"', FileFormatError, "a whole number for rank"),
        ('extends = "generic"\n[detect]\nvalues = { a = "(" }', FileFormatError, "a regular expression"),
        ('extends = "generic"\nstart = 1', FileFormatError, "to be a section"),
        ("= 1", FileFormatError, "a TOML file"),
    ],
)
def test_a_faulty_profile_is_refused_in_words(tmp_path, monkeypatch, text, error, message):
    (tmp_path / "own.toml").write_text(text)
    monkeypatch.setenv(SEARCH_PATH, str(tmp_path))
    with pytest.raises(error, match=message):
        load_profile(str(tmp_path / "own.toml"))


def test_a_file_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingDataError, match="expected a profile in"):
        load_profile(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ({"BMM_kafka": {"hint": "xafs transmission"}}, "bmm"),
        ({"XDI": {"Beamline": {"name": "BMM (06BM)"}}}, "bmm"),
        ({"experiment": "fly_scan"}, "iss"),
        ({"experiment": "step_scan"}, "iss"),
        ({"experiment": "fly_energy_scan_apb"}, "qas"),
        ({"experiment": "diffraction", "subframe_time": 0.2}, "qas"),
        ({"beamline_id": "QAS"}, "qas"),
        ({"XDI": 3, "experiment": None}, "generic"),
    ],
)
def test_beamlines_are_known_by_their_start_documents(start, name):
    assert detect_profile(start).name == name
