"""Runs of a databroker catalog, which is a Tiled profile, are replayed."""

import pytest
import tiled.profiles
import yaml

from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.publish import TiledPublisher

pytest.importorskip("databroker")

UIDS = ("0f3c2a4e-11aa-4d0e-9c3a-000000000001", "5b7d9e21-22bb-4d0e-9c3a-000000000002")


@pytest.fixture(scope="module")
def beamline(tiled_server, tmp_path_factory):
    """Return the name of a catalog with two runs, whose predictions go to `of-databroker`."""
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="of-databroker/raw")
    for number, uid in enumerate(UIDS, start=1):
        documents = [
            (name, document | {"scan_id": 4000 + number} if name == "start" else document)
            for name, document in run_documents(uid, 1.7e9 + number)
        ]
        publisher.publish(documents)
    publisher.close()
    folder = tmp_path_factory.mktemp("profiles")
    root = tiled_server.uri.partition("?")[0]
    profile = {"uri": f"{root}/metadata/of-databroker"}
    away = {"uri": "http://127.0.0.1:9/api/v1?api_key=some-secret-key"}
    (folder / "profiles.yml").write_text(yaml.safe_dump({"beamline": profile, "away": away}))
    with pytest.MonkeyPatch.context() as patch:
        # What TILED_PROFILES sets in a new process.
        patch.setattr(tiled.profiles, "paths", [folder])
        patch.setenv("TILED_API_KEY", tiled_server.api_key)
        tiled.profiles.load_profiles.cache_clear()
        yield "beamline"
    tiled.profiles.load_profiles.cache_clear()


@pytest.mark.parametrize("named", [(UIDS[0], "4002"), ("0f3c2a4e", "--", "-1")])
def test_runs_are_named_as_databroker_users_name_them(named, beamline, xpdml, tiled_server):
    into = ("--publish", tiled_server.uri, "--into", "of-databroker/derived", "--json")
    done = xpdml("replay", "--databroker", beamline, *into, *named)
    assert done.status == 0, done.err
    assert {each["raw_uid"] for each in done.objects} == set(UIDS)
    assert {each["quality"]["verdict"] for each in done.objects} <= {"good", "suspect"}


def test_a_name_that_is_not_known_is_answered_with_those_that_are(beamline, xpdml):
    done = xpdml("replay", "--databroker", "beamlime", UIDS[0])
    assert done.status == 1
    assert "expected a databroker catalog 'beamlime', found none; known are away, beamline" in done.err


def test_a_run_that_is_not_there_is_named_with_the_ways_to_name_one(beamline, xpdml):
    done = xpdml("replay", "--databroker", beamline, "ffffffff-0000", "9999")
    assert done.status == 1
    for uid in ("ffffffff-0000", "9999"):
        assert f"expected one run '{uid}' in the databroker catalog" in done.err
    assert "five or more characters of it, its scan id, or -1" in done.err


def test_a_server_that_is_away_is_said_without_its_key(beamline, xpdml, monkeypatch):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    done = xpdml("replay", "--databroker", "away", UIDS[0])
    assert done.status == 1
    assert "expected the server of the databroker catalog 'away' to answer" in done.err
    assert "some-secret-key" not in done.err


def test_two_catalogs_are_refused(beamline, xpdml):
    done = xpdml("replay", "--databroker", beamline, "--tiled", "http://localhost:9", UIDS[0])
    assert done.status == 1
    assert "expected the runs in one catalog" in done.err
