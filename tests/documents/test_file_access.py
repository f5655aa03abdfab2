"""Files that documents name: opened only where the settings allow it, only if regular, only if they fit."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.files import (
    LARGEST_DECODED,
    SHOWN_PATH,
    FileAccess,
    open_regular,
    read_npy,
    read_regular,
)
from bluesky_xpdml.vocabulary import ReasonCode

CONTENT = "root:x:0:0"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "scan.dat").write_text("in the root")
    (tmp_path / "secret.dat").write_text(CONTENT)
    return folder


def refusal(access: FileAccess, path: Path) -> str:
    """Return why a file is not opened."""
    with pytest.raises(DocumentError) as caught, access.opened(path):
        pass
    assert caught.value.code is ReasonCode.FILE_REFUSED
    assert CONTENT not in str(caught.value)
    return str(caught.value)


def content(access: FileAccess, path: Path) -> bytes:
    with access.opened(path) as file:
        return file.read()


def test_without_roots_a_session_opens_any_regular_file_and_a_network_none(root):
    assert content(FileAccess(), root.parent / "secret.dat") == CONTENT.encode()
    said = refusal(FileAccess(anywhere=False), root / "scan.dat")
    assert "[roots]" in said
    assert "--root" in said


def test_with_roots_only_files_under_them_are_opened_whoever_sends(root):
    for anywhere in (True, False):
        access = FileAccess(root_map={str(root): str(root)}, anywhere=anywhere)
        assert content(access, root / "scan.dat") == b"in the root"
        assert content(access, root / ".." / "data" / "scan.dat") == b"in the root"
        assert "outside of the folders under [roots]" in refusal(access, root / ".." / "secret.dat")


def test_a_neighbour_whose_name_begins_alike_is_outside(root):
    (root.parent / "data2").mkdir()
    (root.parent / "data2" / "scan.dat").write_text(CONTENT)
    access = FileAccess(root_map={str(root): str(root)})
    assert "outside" in refusal(access, root.parent / "data2" / "scan.dat")


def test_links_are_followed_before_it_is_decided(root):
    (root / "out.dat").symlink_to(root.parent / "secret.dat")
    (root / "folder").symlink_to(root.parent)
    (root / "in.dat").symlink_to(root / "scan.dat")
    access = FileAccess(root_map={"/there": str(root)})
    assert content(access, root / "in.dat") == b"in the root"
    for name in ("out.dat", "folder/secret.dat"):
        said = refusal(access, root / name)
        assert "links are followed" in said
        assert "secret.dat" not in said.replace(name, ""), "where a link leads is not said"
    (root.parent / "alias").symlink_to(root)
    os.mkfifo(root / "pipe")
    (root / "in.pipe").symlink_to(root / "pipe")
    assert refusal(access, root / "in.pipe").endswith(": /there/in.pipe")
    (root / "lost.dat").symlink_to(root / "gone.dat")
    with pytest.raises(FileNotFoundError) as caught, access.opened(root / "lost.dat"):
        pass
    assert caught.value.filename == "/there/lost.dat"
    by_link = FileAccess(root_map={"/there": str(root.parent / "alias")})
    assert content(by_link, root.parent / "alias" / "scan.dat") == b"in the root"


def test_a_refusal_does_not_say_whether_a_file_exists(root):
    access = FileAccess(root_map={"/there": str(root)})
    there, absent = root.parent / "secret.dat", root.parent / "absent.dat"
    assert refusal(access, there).replace("secret", "absent") == refusal(access, absent)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/self/environ", "/sys/kernel/profiling"])
def test_files_of_the_system_are_never_opened(path):
    for access in (FileAccess(), FileAccess(root_map={"/": "/"})):
        assert "it belongs to the system" in refusal(access, Path(path))


def test_what_is_no_regular_file_is_never_opened(root):
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        for name, kind in (("pipe", "a pipe"), ("socket", "a socket"), (".", "a folder")):
            assert f"expected a regular file, found {kind}" in refusal(FileAccess(), root / name)
    with pytest.raises(DocumentError, match="found a device"):
        open_regular("/dev/zero")


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(root, monkeypatch):
    """The check before and the check after the opening are two: the second counts."""
    os.mkfifo(root / "pipe")
    regular = (root / "scan.dat").stat()
    monkeypatch.setattr("bluesky_xpdml.files.os.stat", lambda _path: regular)
    with pytest.raises(DocumentError, match="found a pipe"):
        open_regular(root / "pipe")


def test_a_folder_that_becomes_a_link_after_the_check_is_noticed(root, monkeypatch):
    access = FileAccess(root_map={"/there": str(root)})
    (root / "day").mkdir()
    (root / "day" / "secret.dat").write_text("harmless")
    real = os.path.realpath(root / "day" / "secret.dat")
    (root / "day").rename(root / "before")
    (root / "day").symlink_to(root.parent)
    monkeypatch.setattr(FileAccess, "require", lambda *_: real)
    assert "outside" in refusal(access, root / "day" / "secret.dat")


def test_addresses_of_other_computers_are_refused(root):
    access = FileAccess()
    for host in ("", "localhost", "LOCALHOST", "127.0.0.1", socket.gethostname()):
        assert access.local_of_address(f"file://{host}{root}/a%20b.h5") == root / "a b.h5"
    for uri in ("file://otherhost/etc/passwd", "file://[::2]/a", "file://["):
        with pytest.raises(DocumentError) as caught:
            access.local_of_address(uri)
        assert caught.value.code is ReasonCode.FILE_REFUSED
    with pytest.raises(DocumentError, match="fetch the run from Tiled"):
        access.local_of_address("s3://bucket/a.h5")


def test_names_that_are_no_paths_are_refused_in_a_short_line():
    for name in ("a\0b", "x" * 50_000_000):
        with pytest.raises(DocumentError) as caught:
            FileAccess().local(name)
        assert len(str(caught.value)) < 2 * SHOWN_PATH


def test_sizes_are_known_before_reading(root, tmp_path):
    with pytest.raises(DocumentError, match=r"at most 5 bytes in .*scan\.dat, found 11"):
        read_regular(root / "scan.dat", 5)
    path = tmp_path / "claim.npy"
    header = {"descr": "<f8", "fortran_order": False, "shape": (60_000, 60_000)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with path.open("rb") as file, pytest.raises(DocumentError, match=str(LARGEST_DECODED)):
        read_npy(file, path.stat().st_size, path)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (1000, 1000)})
    with path.open("rb") as file, pytest.raises(DocumentError, match="not written to its end"):
        read_npy(file, path.stat().st_size, path)
