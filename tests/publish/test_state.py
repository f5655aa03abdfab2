"""The folder of what waits: one for each server and container, private, without secrets in its name."""

import os
import socket
import stat
from pathlib import Path

import pytest

from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.publish import state_folder
from bluesky_xpdml.publish.state import host_folder, private_folder, state_path


def test_the_folder_is_private_and_below_the_state_of_the_user(state_home: Path):
    folder = state_folder("https://tiled.example.org/", "proposal/xpdml")
    assert folder.parent == host_folder()
    assert folder.is_relative_to(state_home / "xpdml")
    assert folder.parent.name == socket.gethostname().lower().replace("_", "-").replace(".", "-")
    assert folder.name.startswith("tiled-example-org-443-proposal-xpdml-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_one_folder_stands_for_one_server_and_container_whatever_the_key(tmp_path: Path):
    spellings = [
        "http://localhost:80",
        "http://LOCALHOST/",
        "http://localhost/api/v1?api_key=topsecret",
        "http://user:topsecret@localhost",
    ]
    folders = {state_path(uri, path, root=tmp_path) for uri in spellings for path in ("a/b", "/a//b/")}
    (folder,) = folders
    assert "topsecret" not in str(folder)
    others = [("https://localhost:80", "a/b"), ("http://localhost:81", "a/b"), ("http://localhost", "a-b")]
    assert len({state_path(*other, root=tmp_path) for other in others} | folders) == 4


def test_strange_addresses_name_no_other_folder(tmp_path: Path):
    for path in ("../../etc", "..", "a\0b", "x" * 5000, "\ud800", ""):
        folder = state_path("http://localhost", path.encode("utf-8", "replace").decode(), root=tmp_path)
        assert folder.parent == host_folder(tmp_path)
        assert len(folder.name) < 100


def test_an_existing_folder_is_made_private(tmp_path: Path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    assert stat.S_IMODE(private_folder(folder).stat().st_mode) == 0o700


def test_a_relative_variable_is_ignored_as_its_specification_demands(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert host_folder().parent == Path.home() / ".local" / "state" / "xpdml"


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"outbox\.folder"):
        private_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("foreign", ["folder", "above"])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, foreign: str):
    folder = tmp_path / "above" / "folder"
    folder.mkdir(parents=True)
    os.chown(folder if foreign == "folder" else folder.parent, 12345, 12345)
    with pytest.raises(SettingsError, match="user 12345"):
        private_folder(folder)


def test_a_folder_below_one_that_all_may_change_is_refused(tmp_path: Path):
    above = tmp_path / "shared"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(SettingsError, match="all may change"):
        private_folder(above / "folder")
