"""A file that was found is used only if nobody else could have written it, and no key leaves its place."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bluesky_xpdml.credentials import parted
from bluesky_xpdml.errors import MissingExtraError, PublishError, SettingsError, XpdmlError, redacted
from bluesky_xpdml.settings import KEYS, Settings, find_settings_file, resolve_settings

NOBODY = 12345
"""A user who is neither root nor the one who runs the tests."""
WORD = "-".join(["5ecre7", "5ecre7"])

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder below one that holds a settings file."""
    (tmp_path / "xpdml.toml").write_text('[tiled]\nuri = "http://stranger.example"\n')
    (tmp_path / "xpdml.toml").chmod(0o644)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    return deep


def refusal(folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve_settings(environment={}, folder=folder)
    said = str(caught.value)
    assert str(folder.parents[1] / "xpdml.toml") in said
    assert "not used" in said
    assert "--settings" in said
    assert "\n" not in said
    return said


def test_a_file_of_the_user_in_a_folder_of_the_user_is_used(folder: Path) -> None:
    assert resolve_settings(environment={}, folder=folder).tiled_uri == "http://stranger.example"


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o622])
def test_a_file_that_others_may_write_is_not_used_but_may_be_named(folder: Path, mode: int) -> None:
    path = folder.parents[1] / "xpdml.toml"
    path.chmod(mode)
    said = refusal(folder)
    assert f"{mode:04o}" in said
    assert "chmod go-w" in said
    for how in ({"file": path}, {"environment": {"XPDML_SETTINGS": str(path)}, "folder": folder}):
        assert resolve_settings(**{"environment": {}, **how}).tiled_uri == "http://stranger.example"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707])
def test_a_file_in_a_folder_that_others_may_write_is_not_used(folder: Path, mode: int) -> None:
    folder.parents[1].chmod(mode)
    assert f"others may write {folder.parents[1]} " in refusal(folder)
    folder.parents[1].chmod(0o755)


@as_root
def test_the_files_and_folders_of_other_users_are_not_used(folder: Path) -> None:
    path = folder.parents[1] / "xpdml.toml"
    for owned in (path, path.parent):
        os.chown(owned, NOBODY, -1)
        assert f"{owned} belongs to another user ({NOBODY})" in refusal(folder)
        os.chown(owned, 0, -1)
    assert find_settings_file(folder) == path


@as_root
def test_a_link_is_as_good_as_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    path = folder.parents[1] / "xpdml.toml"
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    target = path.rename(tmp_path / "elsewhere" / "theirs.toml")
    path.symlink_to(target)
    assert resolve_settings(environment={}, folder=folder).tiled_uri
    os.chown(target, NOBODY, -1)
    assert "belongs to another user" in refusal(folder)
    os.chown(target, 0, -1)
    target.parent.chmod(0o777)
    assert "others may write" in refusal(folder)


def test_the_search_ends_at_a_file_that_is_not_used(folder: Path) -> None:
    """Another file further up, or the defaults, in place of it would be a silent surprise."""
    (folder.parent / "xpdml.toml").write_text('profile = "xpd"\n')
    (folder.parent / "xpdml.toml").chmod(0o666)
    with pytest.raises(SettingsError, match="not used"):
        resolve_settings(environment={}, folder=folder)


def test_a_command_stops_at_it(xpdml: Any, tmp_path: Path) -> None:
    (tmp_path / "xpdml.toml").write_text('[tiled]\nuri = "http://stranger.example"\n')
    (tmp_path / "xpdml.toml").chmod(0o666)
    done = xpdml("find")
    assert (done.status, done.out) == (1, "")
    assert "was found and not used" in done.err


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "HOME", "tiled_key", "XPDML", "TILED_", WORD])
def test_only_variables_for_this_purpose_may_hold_the_key(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'[tiled]\napi_key_variable = "{name}"\n')
    for how in (
        {"file": path, "environment": {}},
        {"environment": {"XPDML_TILED_API_KEY_VARIABLE": name}, "folder": tmp_path},
    ):
        with pytest.raises(SettingsError, match="begins with TILED_ or XPDML_") as caught:
            resolve_settings(**how)  # type: ignore[arg-type]
        assert "found another text" in str(caught.value)
    path.write_text('[tiled]\napi_key_variable = "XPDML_NIGHT_KEY"\n')
    found = resolve_settings(path, environment={})
    assert found.api_key({"XPDML_NIGHT_KEY": WORD, "TILED_API_KEY": "other"}) == WORD


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiled.key"
    path.write_text(f"{WORD}\n")
    path.chmod(0o600)
    return path


def with_file(path: Path) -> Settings:
    named = path.parent / "mine.toml"
    named.write_text(f'[tiled]\nuri = "http://localhost:8000"\napi_key_file = "{path.name}"\n')
    return resolve_settings(named, environment={})


def test_a_private_file_holds_the_key_and_the_environment_stands_before_it(key_file: Path) -> None:
    found = with_file(key_file)
    assert found.api_key({}) == WORD
    assert found.api_key({"TILED_API_KEY": "by-variable"}) == "by-variable"
    assert WORD not in repr(found)
    assert WORD not in str(found.described())


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660])
def test_a_key_that_others_may_read_is_not_used(key_file: Path, mode: int) -> None:
    found = with_file(key_file)
    key_file.chmod(mode)
    with pytest.raises(SettingsError, match=f"{mode:04o}.*chmod 600") as caught:
        found.api_key({})
    assert WORD not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n", f"{WORD} {WORD}", f"a\n{WORD}", WORD * 1000, f"{WORD}é"])
def test_a_file_that_holds_no_key_is_not_sent(key_file: Path, content: str) -> None:
    found = with_file(key_file)
    key_file.write_text(content)
    with pytest.raises(SettingsError, match="expected one key and nothing else") as caught:
        found.api_key({})
    assert WORD not in str(caught.value)


def test_a_pipe_and_a_missing_file_are_no_keys(key_file: Path) -> None:
    found = with_file(key_file)
    key_file.unlink()
    with pytest.raises(SettingsError, match="cannot be read: FileNotFoundError"):
        found.api_key({})
    os.mkfifo(key_file, 0o600)
    with pytest.raises(SettingsError, match="found a pipe"):
        found.api_key({})
    with pytest.raises(SettingsError, match=r"an existing file for tiled\.api_key_file, found another text"):
        with_file(key_file)


def test_the_keyring_needs_its_extra_and_gives_the_key_of_a_host(tmp_path: Path) -> None:
    found = Settings(tiled_uri="http://me:pw@localhost:8000/api", api_key_keyring="beamline")
    assert found.api_key({"TILED_API_KEY": WORD}) == WORD
    try:
        import keyring
        from keyring.backend import KeyringBackend
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"bluesky-xpdml\[keyring\]"):
            found.api_key({})
        return

    class Memory(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return {("beamline", "localhost:8000"): WORD}.get((service, username))

        set_password = delete_password = None  # type: ignore[assignment]

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert found.api_key({}) == WORD
        other = Settings(tiled_uri="http://elsewhere:8000", api_key_keyring="beamline")
        with pytest.raises(SettingsError, match="keyring set beamline elsewhere:8000"):
            other.api_key({})
    finally:
        keyring.set_keyring(before)


ADDRESSES = [
    f"http://localhost:8000/?api_key={WORD}",
    f"http://localhost:8000/api/v1/?limit=5&api_key={WORD}&x=1",
    f"http://me:{WORD}@localhost:8000/api",
    f"https://me%40site:{WORD}@tiled.example.org",
    f"http://a@{WORD}@localhost",
]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_addresses_lose_their_secrets_before_they_are_used(uri: str) -> None:
    address = parted(uri)
    assert WORD not in address.uri
    assert address.uri.startswith("http")
    assert address.api_key == WORD or "Basic " in address.headers["Authorization"]
    text = f"Client error '401' for url '{uri}'\nFor more, see {uri}, and ({uri})."
    assert WORD not in redacted(text)
    assert redacted(redacted(text)) == redacted(text)
    assert WORD not in str(PublishError(text))
    assert WORD not in str(XpdmlError(text).reason)
    assert WORD not in repr(Settings(tiled_uri=uri))
    assert WORD not in str(Settings(tiled_uri=uri).described())


def test_what_is_no_address_is_not_repeated() -> None:
    with pytest.raises(PublishError, match="expected the address of a server") as caught:
        parted(f"http://[{WORD}")
    assert WORD not in str(caught.value)


def test_texts_without_secrets_stay_as_they_are() -> None:
    for text in ("a basic oxide, token=3", "mail me@site", "http://a/b?x=1", "5 @ 3", "://"):
        assert redacted(text) == text


def require_one_line(path: Path) -> None:
    """Resolve a file, which may be refused in one line and in no other way."""
    said = ""
    try:
        resolve_settings(path, environment={})
    except SettingsError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1, said
    assert len(said) < 5_000


VALUES = st.recursive(
    st.one_of(
        st.text(max_size=8),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.sampled_from(
            [
                10**400,
                "~nobody/x",
                "\0",
                "x" * 300,
                "http://[",
                "http://\u2100:x@y",
                "//",
                "{",
                "*",
                "reference",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(each):08x}" for each in value) + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("e+", "e")


@examples(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(table=st.dictionaries(st.sampled_from(sorted(KEYS)), VALUES, max_size=3))
@example(table={"tiled.uri": "http://["})
@example(table={"repeats.within": 10**400})
@example(table={"scattering.poni": "~nobody/x"})
@example(table={"pdf.q_max": {"a": [[[[1]]]]}})
@example(table={"models.folder": "x" * 5000, "profile": "\0.toml"})
def test_any_value_of_any_key_is_used_or_one_line(table: dict[str, Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text("".join(f"{name} = {toml(value)}\n" for name, value in table.items()), encoding="utf-8")
    require_one_line(path)


@examples(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8"))))
@example(content=b"a = " + b"[" * 50_000)
@example(content=b"a." * 4_000 + b"b = 1")
@example(content=b"xanes.pre_edge = " + b"{a=" * 900 + b"1" + b"}" * 900)
@example(content=b"profile = 1" + b"0" * 5_000)
@example(content=b"profile = 2026-13-45")
@example(content=b"x" * 2_000_000)
@example(content=b"\xff\xfe")
def test_any_file_is_used_or_one_line(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    require_one_line(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_what_is_no_regular_file_is_no_settings_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "xpdml.toml"
    make(path)
    with pytest.raises(SettingsError, match="no settings file"):
        resolve_settings(path, environment={})
    assert find_settings_file(tmp_path) is None
    assert not stat.S_ISREG(path.stat().st_mode)
