"""Who may see a derived run: on a server with a tag policy, those who may see the raw run."""

import asyncio
from contextlib import ExitStack

import httpx
import pytest
import tiled
from packaging.version import Version
from tiled.access_control.access_tags import AccessTagsCompiler
from tiled.access_control.scopes import ALL_SCOPES
from tiled.client import from_uri

from bluesky_xpdml.documents import origin_of
from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.pairing.pairing import joint_origin
from bluesky_xpdml.publish import (
    LiveRun,
    PredictionCatalog,
    Query,
    TiledPublisher,
    derived_run,
    open_container,
    published,
)
from bluesky_xpdml.records import Origin

SCOPES = sorted(str(getattr(scope, "value", scope)) for scope in ALL_SCOPES)
PASSWORDS = {"pipeline": "p", "visitor": "v", "stranger": "s"}
TAGS = {
    "roles": {
        "reader": {"scopes": ["read:data", "read:metadata"]},
        "writer": {"scopes": [scope for scope in SCOPES if not scope.startswith("admin")]},
    },
    "tags": {
        "facility": {
            "users": [{"name": "pipeline", "role": "writer"}]
            + [{"name": name, "role": "reader"} for name in ("visitor", "stranger")]
        },
        "proposal-310000": {
            "users": [{"name": "pipeline", "role": "writer"}, {"name": "visitor", "role": "reader"}]
        },
    },
    "tag_owners": {tag: {"users": [{"name": "pipeline"}]} for tag in ("facility", "proposal-310000")},
}
PATIENCE = 60.0
"""Longest time for an answer of a server on a busy machine [s]."""
HAS_TAGS_IN_CATALOG = Version(tiled.__version__) >= Version("0.2.19")


def configuration(folder):
    """Return a configuration of a server with a tag policy, and three users."""
    policy = {
        "provider": "toy",
        "access_tags_parser": "tiled.access_control.access_tags:AccessTagsParser",
        "scopes": SCOPES,
    }
    catalog = {
        "uri": "catalog.db",
        "init_if_not_exists": True,
        "writable_storage": ["data", "duckdb:///data.db"],
    }
    if HAS_TAGS_IN_CATALOG:
        catalog["top_level_access_tags"] = ["facility"]
    else:
        catalog["top_level_access_blob"] = {"tags": ["facility"]}
        policy["tags_db"] = {"uri": f"file:{folder / 'tags.db'}"}
    return {
        "authentication": {
            "secret_keys": ["secret"],
            "providers": [
                {
                    "provider": "toy",
                    "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                    "args": {"users_to_passwords": PASSWORDS},
                }
            ],
        },
        "database": {"uri": "sqlite:///authn.db", "init_if_not_exists": True},
        "access_control": {
            "access_policy": "tiled.access_control.access_policies:TagBasedAccessPolicy",
            "args": policy,
        },
        "trees": [{"path": "/", "tree": "catalog", "args": catalog}],
    }


def define_tags(folder):
    scopes = dict.fromkeys(SCOPES)
    if HAS_TAGS_IN_CATALOG:
        from tiled.server.settings import DatabaseSettings

        settings = DatabaseSettings(uri=f"sqlite+aiosqlite:///{folder / 'catalog.db'}")
        compiler = AccessTagsCompiler(scopes, TAGS, settings, lambda _: [])
        compiler.load_tag_config()
        asyncio.run(compiler.compile())
    else:
        compiler = AccessTagsCompiler(scopes, TAGS, {"uri": f"file:{folder / 'tags.db'}"}, lambda _: [])
        compiler.load_tag_config()
        compiler.compile()
        compiler.connection.close()


def key_of(uri, name):
    """Return a key of a user."""
    form = {"username": name, "password": PASSWORDS[name]}
    session = httpx.post(f"{uri}/api/v1/auth/provider/toy/token", data=form, timeout=PATIENCE).json()
    bearer = {"Authorization": f"Bearer {session['access_token']}"}
    made = httpx.post(
        f"{uri}/api/v1/auth/apikey",
        json={"scopes": ["inherit"], "expires_in": 3600},
        headers=bearer,
        timeout=PATIENCE,
    )
    assert made.is_success, made.text
    return made.json()["secret"]


@pytest.fixture
def keys(serve, tmp_path):
    """Yield the address of a server with a tag policy, and the key of each user."""
    (tmp_path / "data").mkdir()
    if not HAS_TAGS_IN_CATALOG:
        define_tags(tmp_path)
    with serve(configuration(tmp_path)) as (uri, _):
        if HAS_TAGS_IN_CATALOG:
            define_tags(tmp_path)
        yield uri, {name: key_of(uri, name) for name in PASSWORDS}


def test_a_visitor_sees_the_predictions_of_the_own_proposal_and_another_does_not(keys, answer):
    uri, key_by_name = keys
    raw = {"uid": "raw", "tiled_access_tags": ["proposal-310000"]}
    seen = answer("raw", origin=origin_of(raw))
    with ExitStack() as resources:
        roots = {}
        for name, key in key_by_name.items():
            roots[name] = from_uri(uri, api_key=key)
            resources.callback(roots[name].context.http_client.close)
        roots["pipeline"].create_container("xpdml", access_tags=["facility"])
        publisher = TiledPublisher(open_container(roots["pipeline"], "xpdml"))
        publisher.publish(derived_run(seen))
        publisher.publish(derived_run(answer("private")))
        live = LiveRun()
        publisher.extend(live.update(seen))
        publisher.extend(live.update(seen))

        catalog = PredictionCatalog(roots["visitor"]["xpdml"])
        (found,) = catalog.find(Query())
        assert found.origin.access_tags == ("proposal-310000",)
        table = catalog.container[found.uid]["predictions"].read()
        assert table["oxidation_state"].values.tolist() == [2.5]
        assert catalog.container[live.uid]["updates"].read()["completeness"].values.tolist() == [1.0, 1.0]
        assert PredictionCatalog(roots["stranger"]["xpdml"]).find(Query()) == []
        with pytest.raises(KeyError):
            roots["stranger"]["xpdml"][found.uid]
        assert len(PredictionCatalog(roots["pipeline"]["xpdml"]).find(Query())) == 2

        wrong = derived_run(answer("raw-2", origin=Origin(access_tags=("unknown",))))
        with pytest.raises(PublishError, match="may give the access tags unknown") as refusal:
            publisher.publish(wrong)
        assert not isinstance(refusal.value, ServerAwayError)
        with pytest.raises(ServerAwayError):
            TiledPublisher(roots["visitor"]["xpdml"]).publish(derived_run(answer("raw-3")))


def test_tags_are_carried_as_the_raw_run_states_them(answer):
    start = derived_run(answer("raw", origin=Origin(access_tags=("a", "b"))))[0][1]
    assert start["tiled_access_tags"] == ["a", "b"]
    assert "access_tags" not in start["origin"]
    assert published(start).origin.access_tags == ("a", "b")
    assert "tiled_access_tags" not in derived_run(answer("raw"))[0][1]


@pytest.mark.parametrize("stated", [None, "proposal", 7, {"a": 1}, [], [7, ""]])
def test_what_is_no_list_of_tags_is_none(stated):
    assert origin_of({"uid": "raw", "tiled_access_tags": stated}).access_tags == ()


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [(("a", "b"), ("b", "c"), ("b",)), (("a",), ("b",), ()), (("a",), (), ()), ((), (), ())],
)
def test_a_joint_answer_has_the_tags_that_both_raw_runs_have(one, other, common):
    assert joint_origin(Origin(access_tags=one), Origin(access_tags=other)).access_tags == common
