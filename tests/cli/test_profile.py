"""`xpdml profile` says what a convention would read, and what is missing."""

import json

import pytest

OWN = """
name = "mine"
extends = "generic"

[absorption]
energy = ["e_mono"]
i0 = ["before"]
it = ["after"]
"""


@pytest.fixture
def recorded(tmp_path):
    """Return a file of the documents of a scan whose channels nobody else calls so."""
    keys = {"e_mono": {"units": "keV"}, "before": {}, "after": {}}
    rows = [
        ["start", {"uid": "a1", "time": 1.0, "element": "Fe", "edge": "K", "num_points": 60}],
        ["descriptor", {"uid": "d", "run_start": "a1", "name": "primary", "data_keys": keys}],
    ]
    for i in range(60):
        data = {"e_mono": 7.0 + 0.005 * i, "before": 2.0, "after": 1.0}
        rows.append(
            ["event", {"uid": f"e{i}", "descriptor": "d", "seq_num": i + 1, "time": 1.0, "data": data}]
        )
    rows.append(["stop", {"uid": "z", "run_start": "a1", "exit_status": "success"}])
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_profile_of_ones_own_is_a_file(xpdml, tmp_path, recorded):
    (tmp_path / "mine.toml").write_text(OWN)
    outcome = xpdml("profile", "check", "mine.toml", "--documents", recorded, "--json")
    assert outcome.status == 0, outcome.err
    (said,) = outcome.objects
    found = {finding["what"]: finding for finding in said["findings"]}
    assert said["profile"] == "mine"
    assert found["energy"]["where"] == "e_mono in stream primary"
    assert found["absorption scan"]["found"] == "60 points, 7000.0 to 7295.0 eV, 100% complete"
    assert not any(finding["missing"] for finding in said["findings"])


def test_what_is_missing_is_said_in_words(xpdml, recorded):
    outcome = xpdml("profile", "check", "bmm", "--documents", recorded)
    assert outcome.status == 1
    assert (
        "absorption scan is missing: expected an energy axis (a data key in eV or keV), found primary"
        in outcome.out
    )


def test_a_profile_with_a_fault_is_refused_by_the_name_of_the_fault(xpdml, tmp_path):
    (tmp_path / "mine.toml").write_text(OWN.replace("energy =", "enrgy ="))
    outcome = xpdml("profile", "check", "mine.toml")
    assert outcome.status == 1
    assert "found 'enrgy'; check the spelling" in outcome.err


def test_profiles_are_listed(xpdml):
    outcome = xpdml("profile", "list", "--json")
    names = [profile["name"] for profile in outcome.objects[0]["profiles"]]
    assert {"bmm", "generic", "iss", "qas", "xpd"} <= set(names)
