"""Profiles are data, and complete."""

import os
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


def test_an_unknown_profile_is_refused_with_the_known_names():
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


def test_a_users_profile_is_found_detected_and_extends_another(folder):
    assert "mine" in profile_names()
    profile = detect_profile({"beamline": "Mine"})
    assert profile.name == "mine"
    assert profile.fly.counts_per_degree == 1000
    assert profile.fly.encoder == ("pb9_enc1",)
    assert load_profile(str(folder / "mine.toml")) == profile


def later(path, text, seconds):
    """Write a file again as if so many seconds had passed."""
    path.write_text(text)
    status = path.stat()
    os.utime(path, (status.st_atime, status.st_mtime + seconds))


def test_a_profile_that_changes_on_disk_is_read_again(folder):
    path = folder / "mine.toml"
    assert load_profile("mine") is load_profile("mine")
    later(path, OWN.replace("1000", "2000").replace('"mine" }', '"changed" }'), 1)
    for profile in (load_profile("mine"), load_profile(str(path)), detect_profile({"beamline": "changed"})):
        assert profile.fly.counts_per_degree == 2000
    assert detect_profile({"beamline": "mine"}).name == "generic"
    (folder / "child.toml").write_text('extends = "mine"')
    later(path, OWN, 2)
    assert load_profile("child").fly.counts_per_degree == 1000
    path.unlink()
    assert "mine" not in profile_names()
    with pytest.raises(MissingDataError, match="found 'mine'"):
        load_profile("child")


@pytest.mark.parametrize("text", ["= 1", 'extends = "nobody"', "[detect]\nrank = 0", "name = 3"])
def test_a_profile_that_cannot_be_read_stops_no_detection_and_is_logged(folder, caplog, text):
    (folder / "broken.toml").write_text(text)
    assert detect_profile({"beamline": "mine"}).name == "mine"
    assert detect_profile({"sc_dk_field_uid": "d"}).name == "xpd"
    assert detect_profile({"sc_dk_field_uid": "d", "xpdml": {"profile": "broken"}}).name == "xpd"
    assert "broken.toml" in caplog.text


def test_a_profile_may_replace_a_shipped_one_by_extending_it(folder):
    (folder / "pdf.toml").write_text('extends = "pdf"\n[start]\nelement = ["metal"]')
    profile = load_profile("pdf")
    assert profile.start.element == ("metal",)
    assert profile.scattering.every_run
    assert load_profile(str(folder / "pdf.toml")) == profile
    assert detect_profile({"beamline_id": "28-ID-1"}) == profile


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("name = 3", FileFormatError, "a text after name"),
        ('extends = "nobody"', MissingDataError, "found 'nobody'"),
        ('extends = ["generic"]', MissingDataError, r"found \['generic'\]"),
        ('extends = "own"', MissingDataError, "expected extends to name one of"),
        ("[start]\nelement = []", FileFormatError, 'extends = "generic"'),
        ('extends = "generic"\n[sart]\nelement = []', FileFormatError, "found 'sart'"),
        ('extends = "generic"\n[start]\nelemnt = []', FileFormatError, "'elemnt'; check the spelling"),
        ('extends = "generic"\n[start]\nelement = "x"', FileFormatError, "a list of texts for element"),
        ('extends = "generic"\n[absorption]\ni0 = ["("]', FileFormatError, "a regular expression"),
        ('extends = "generic"\n[fly]\ncounts_per_degree = "many"', FileFormatError, "a number for counts"),
        ('extends = "generic"\n[fly]\nencoder_bits = true', FileFormatError, "a whole number for encoder"),
        ('extends = "generic"\n[scattering]\nevery_run = 1', FileFormatError, "true or false for every_run"),
        ('extends = "generic"\n[fly]\ntriggers = { a = 1 }', FileFormatError, "a table of texts"),
        ('extends = "generic"\n[detect]\nrank = "1"', FileFormatError, "a whole number for rank"),
        ('extends = "generic"\n[detect]\nvalues = { a = "(" }', FileFormatError, "a regular expression"),
        ('extends = "generic"\nstart = 1', FileFormatError, "to be a section"),
        ("= 1", FileFormatError, "a TOML file"),
    ],
)
def test_a_faulty_profile_is_refused_with_the_reason(tmp_path, monkeypatch, text, error, message):
    (tmp_path / "own.toml").write_text(text)
    monkeypatch.setenv(SEARCH_PATH, str(tmp_path))
    with pytest.raises(error, match=message):
        load_profile(str(tmp_path / "own.toml"))


def test_a_missing_profile_file_is_refused(tmp_path):
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
def test_beamlines_are_detected_by_their_start_documents(start, name):
    assert detect_profile(start).name == name
