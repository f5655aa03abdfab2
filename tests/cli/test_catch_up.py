"""`xpdml catch-up`: raw runs of a catalog that have no answer get one."""

import time

from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.publish import TiledPublisher


def test_missed_runs_are_answered_once(xpdml, tiled_server):
    into = ("--tiled", tiled_server.uri, "--into", "caught-up", "--raw", "caught-up-raw")
    raw = TiledPublisher.from_uri(tiled_server.uri, path="caught-up-raw")
    for uid in ("missed-1", "missed-2"):
        raw.publish(list(run_documents(uid, time.time())))
    raw.close()
    first, second = xpdml("catch-up", *into, "--json"), xpdml("catch-up", *into, "--json")
    assert (first.status, second.status) == (0, 0)
    assert sorted(each["raw_uids"] for each in first.objects) == [["missed-1"], ["missed-2"]]
    assert "2 runs had no answer" in first.err
    assert second.out == ""


def test_a_catalog_that_is_not_there_is_said_at_once(xpdml, tiled_server):
    done = xpdml("catch-up", "--tiled", tiled_server.uri, "--into", "caught-up", "--raw", "nowhere")
    assert done.status == 1
    assert "expected a container 'nowhere'" in done.err
    assert "check the path" in done.err
