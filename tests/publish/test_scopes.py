"""Which scopes the key of a watcher needs, on a server that checks them: the table of the operators' page."""

import re
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import (
    LiveRun,
    TiledPublisher,
    connect,
    derived_run,
    find_predictions,
    read_statuses,
    status_path,
)
from bluesky_xpdml.publish.status import Status, StatusNode
from bluesky_xpdml.records import PairDistribution
from bluesky_xpdml.vocabulary import Technique

PATIENCE = 240.0
TO_PUBLISH = ("read:metadata", "read:data", "write:metadata", "write:data", "create:node")
TO_REMOVE = ("delete:node", "delete:revision")
CURVE = PairDistribution(
    r=np.linspace(0.0, 20.0, 120), g=np.linspace(-1.0, 1.0, 120), composition={"Fe": 1.0}
)
CONFIGURATION = {
    "authentication": {
        "secret_keys": ["secret"],
        "providers": [
            {
                "provider": "toy",
                "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                "args": {"users_to_passwords": {"pipeline": "p"}},
            }
        ],
    },
    "database": {"uri": "sqlite:///authn.db", "init_if_not_exists": True},
    "trees": [
        {
            "path": "/",
            "tree": "catalog",
            "args": {
                "uri": "catalog.db",
                "init_if_not_exists": True,
                "writable_storage": ["data", "duckdb:///data.db"],
            },
        }
    ],
}


def keys_of(uri):
    """Return a function that makes keys of a user with some scopes."""
    form = {"username": "pipeline", "password": "p"}
    session = httpx.post(f"{uri}/api/v1/auth/provider/toy/token", data=form, timeout=PATIENCE).json()
    bearer = {"Authorization": f"Bearer {session['access_token']}"}

    def make(*scopes):
        wanted = {"expires_in": None, "scopes": list(scopes), "note": "watcher"}
        made = httpx.post(f"{uri}/api/v1/auth/apikey", headers=bearer, json=wanted, timeout=PATIENCE)
        return made.raise_for_status().json()["secret"]

    return make


def publish(uri, key, path, answer):
    """Publish a derived run, and a live one row by row."""
    with closing(TiledPublisher.from_uri(uri, api_key=key, path=path)) as publisher:
        publisher.publish(derived_run(answer("raw", pdf=CURVE, technique=Technique.PDF)))
        live = LiveRun()
        for state in (1.0, 2.0):
            publisher.extend(live.update(answer("raw-live", state)))
        publisher.extend(live.finish())


@contextmanager
def status_node(uri, key):
    """Give the status of a watcher, written with a key."""
    node = StatusNode(partial(connect, uri, api_key=key), "all", "ws-1")
    node.write(Status(documents=1))
    yield node
    node.close()


@pytest.mark.slow
def test_a_key_needs_the_scopes_of_the_operators_page(serve, answer):
    with serve(CONFIGURATION) as (uri, _):
        make = keys_of(uri)
        publish(uri, make(*TO_PUBLISH), "all", answer)
        # Without the first, Tiled's client refuses to connect, and leaves its connection open.
        for missing in TO_PUBLISH[1:]:
            scopes = [scope for scope in TO_PUBLISH if scope != missing]
            with pytest.raises(PublishError):
                publish(uri, make(*scopes), f"without-{missing}", answer)
        with status_node(uri, make(*TO_PUBLISH)) as node:
            # Another record replaces the first.
            node.write(Status(documents=2))
        reading = connect(uri, api_key=make("read:metadata", "read:data"))
        assert {run.start["raw_uid"] for run in reading["all"].values()} == {"raw", "raw-live"}
        assert all(run.stop["exit_status"] == "success" for run in reading["all"].values())
        (rows,) = find_predictions(reading["all"], "raw-live")
        assert rows["updates"].read()["oxidation_state"].values.tolist() == [1.0, 2.0]
        for one in TO_REMOVE:
            with status_node(uri, make(*TO_PUBLISH, one)) as node, pytest.raises(PublishError):
                node.remove()
        assert len(read_statuses(reading[status_path("all")])) == 1
        with status_node(uri, make(*TO_PUBLISH, *TO_REMOVE)) as node:
            node.remove()
        assert read_statuses(reading[status_path("all")]) == []
        reading.context.http_client.close()


def test_derived_runs_are_removed_as_the_operators_page_says(tiled_server, answer):
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "operate-a-watcher.md"
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, names)  # noqa: S102 - the page's own code
    with closing(TiledPublisher.from_uri(tiled_server.uri, path="removed/xpdml")) as publisher:
        for raw in ("raw-1", "raw-2"):
            publisher.publish(derived_run(answer(raw, pdf=CURVE, technique=Technique.PDF)))
        names["remove_predictions"](tiled_server.uri, "removed/xpdml", "raw-1")
        assert [run.start["raw_uid"] for run in publisher.container.values()] == ["raw-2"]
