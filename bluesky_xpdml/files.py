"""Files that documents, bundles, settings and people name: opened only if they are regular and not too large.

What a document says is a claim of somebody else. `FileAccess` decides which of the files that it names may be
opened: under the roots that the settings list, or, for documents of the own process, anywhere. Pipes, devices
and sockets, and the folders of the system's own files, are never opened. Messages hold paths and sizes, but
nothing of the content of a file.
"""

import fcntl
import grp
import math
import os
import pwd
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import DocumentError, FileFormatError
from bluesky_xpdml.vocabulary import ReasonCode

LARGEST_DECODED = 1 << 30
"""Arrays that would be larger are not decoded [bytes]: a stack of 64 images of four million pixels fits, and
a workstation at a beamline has room for it beside the analysis."""
LARGEST_TEXT_TABLE = 1 << 28
"""Larger text files of numbers are not read [bytes]: reading takes a minute, and several times the memory."""
LONGEST_PATH = 4096
"""No path of a file is longer [characters]."""
SHOWN_PATH = 300
"""Longer paths are cut in messages [characters]."""
SYSTEM_FOLDERS = ("/dev", "/proc", "/sys")
"""Files in these folders are devices, processes and switches of the system; none is data."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def shown(path: PurePath | str) -> str:
    """Return a path for a message, cut to a length that people read.

    Examples
    --------
    >>> shown("/data/scan.h5")
    '/data/scan.h5'
    """
    text = str(path)
    return text if len(text) <= SHOWN_PATH else f"{text[:SHOWN_PATH]}..."


def refused(message: str) -> DocumentError:
    """Return the error of a file that may not be opened."""
    return DocumentError(message, ReasonCode.FILE_REFUSED)


def open_regular(path: Path | str, *, flags: int = 0, name: str = "") -> BinaryIO:
    """Open a regular file for reading, without ever waiting for a pipe; `name` stands for it in messages.

    A DocumentError with the code `file-refused` is raised if it is a folder, a pipe, a device or a socket; an
    OSError if it cannot be opened.
    """
    # Opening a device may already have an effect: it is looked at before, and again once it is open.
    found = os.stat(path)  # noqa: PTH116 - a bad path must raise as `open` does
    _require_regular(found.st_mode, name or path)
    with ExitStack() as opened:
        file: BinaryIO = opened.enter_context(os.fdopen(os.open(path, _FLAGS | flags), "rb"))
        _require_regular(os.fstat(file.fileno()).st_mode, name or path)
        opened.pop_all()
        return file


def _require_regular(mode: int, path: Path | str) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise refused(f"expected a regular file, found {kind}: {shown(path)}")


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file [bytes]."""
    return os.fstat(file.fileno()).st_size


def require_size(file: BinaryIO, limit: int, path: Path | str) -> int:
    """Return the size of an open file [bytes], which a DocumentError refuses above a limit."""
    size = size_of(file)
    if size > limit:
        raise refused(f"expected at most {limit} bytes in {shown(path)}, found {size}")
    return size


def read_regular(path: Path | str, limit: int) -> bytes:
    """Return the content of a regular file of at most so many bytes.

    A DocumentError with the code `file-refused` is raised if it is none or larger, an OSError if it cannot be
    read. A file that grows while it is read is cut at the limit.
    """
    with open_regular(path) as file:
        require_size(file, limit, path)
        return file.read(limit)


def require_decoded(shape: tuple[int, ...], itemsize: int, path: Path | str) -> None:
    """Refuse with a DocumentError an array that would take more than `LARGEST_DECODED` bytes."""
    size = math.prod(shape) * itemsize
    if size > LARGEST_DECODED:
        raise refused(
            f"expected at most {LARGEST_DECODED} bytes of numbers at a time in {shown(path)}, found {size} "
            f"(the shape {shape})"
        )


def read_npy(file: BinaryIO, size: int, path: Path | str) -> NDArray[Any]:
    """Return the array of an NPY file of so many bytes; its header is compared with the size before.

    A FileFormatError is raised if it is no NPY file, holds objects, or claims more than it holds.
    """
    try:
        form = np.lib.format
        is_first = form.read_magic(file) == (1, 0)
        shape, _, dtype = (form.read_array_header_1_0 if is_first else form.read_array_header_2_0)(file)
        file.seek(0)
    except ValueError:
        raise FileFormatError(
            f"expected an array in the format NPY in {shown(path)}, found what cannot be read"
        ) from None
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise FileFormatError(
            f"expected an array of numbers in {shown(path)}, found another kind; objects are never opened "
            "(allow_pickle=False)"
        )
    require_decoded(shape, dtype.itemsize, path)
    if math.prod(shape) * dtype.itemsize > size:
        raise FileFormatError(
            f"expected {math.prod(shape) * dtype.itemsize} bytes of numbers in {shown(path)}, found {size} "
            "in all: the file was not written to its end"
        )
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def fault_of_owner(path: Path) -> str:
    """Return why others than the user and root could have written a file that was found; else an empty text.

    What counts are the file and its folder, and, if it is a link, also those that it leads to.
    """
    real = path.resolve()
    for each in dict.fromkeys((path, path.parent, real, real.parent)):
        found = each.stat()
        if found.st_uid not in {0, os.geteuid()}:
            return f"{shown(each)} belongs to another user ({_user(found.st_uid)})"
        others = stat.S_IWOTH if _is_private(found) else stat.S_IWOTH | stat.S_IWGRP
        if found.st_mode & others:
            return f"others may write {shown(each)} (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def exposure(file: BinaryIO) -> str:
    """Return why others could read a secret in an open file: its mode and its owner; else an empty text."""
    found = os.fstat(file.fileno())
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or found.st_uid not in {0, os.geteuid()}:
        return f"the mode {stat.S_IMODE(found.st_mode):04o} and the owner {found.st_uid}"
    return ""


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _is_private(found: os.stat_result) -> bool:
    """Return whether the group of a file is that of its owner alone: some systems give each user one."""
    try:
        user, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    is_own = user.pw_uid != 0 and (group.gr_name, group.gr_gid) == (user.pw_name, user.pw_gid)
    return is_own and set(group.gr_mem) <= {user.pw_name}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAccess:
    """Which of the files that documents name may be opened, and where they are on this computer.

    Examples
    --------
    >>> access = FileAccess(root_map={"/nsls2/data": "/mnt/data"})
    >>> access.local("/nsls2/data/scan.h5")
    PosixPath('/mnt/data/scan.h5')
    """

    root_map: Mapping[str, str] = field(default_factory=dict)
    """Folder here by folder there. If there are any, only files in these folders here are opened."""
    anywhere: bool = True
    """Whether any regular file may be opened if there are no roots: for documents of the own process."""

    def local(self, path: str) -> Path:
        """Return where a path of a document is here; a DocumentError is raised if it cannot be one."""
        if "\0" in path:
            raise refused("expected the path of a file, found one with a NUL in it")
        if len(path) > LONGEST_PATH:
            raise refused(f"expected a path of at most {LONGEST_PATH} characters, found {shown(path)}")
        for there, here in sorted(self.root_map.items(), key=lambda pair: -len(pair[0])):
            if PurePosixPath(path).is_relative_to(there):
                return Path(here) / PurePosixPath(path).relative_to(there)
        return Path(path)

    def local_of_address(self, uri: str) -> Path:
        """Return where the file of an address (`file://localhost/...`) is here.

        A DocumentError is raised if the address is not that of a file of this computer.
        """
        try:
            parts = urlsplit(uri)
            host = parts.hostname or ""
        except ValueError:
            raise refused(f"expected the address of a file, found {shown(uri)!r}") from None
        if parts.scheme not in {"file", ""}:
            raise DocumentError(
                f"expected the address of a file (file://...), found {shown(uri)!r}: fetch the run from "
                "Tiled instead"
            )
        if host not in _own_names():
            raise refused(
                f"expected a file of this computer (file://localhost/...), found {shown(uri)!r}: mount its "
                "folder here"
            )
        # The address of a series of files ends with the `/` of its folder.
        return self.local(unquote(parts.path))

    def named(self, path: Path) -> str:
        """Return a path here as documents name it, for a message."""
        for there, here in self.root_map.items():
            if path.is_relative_to(here):
                return shown(PurePosixPath(there) / path.relative_to(here))
        return shown(path)

    def require(self, path: Path) -> str:
        """Return the real path of a file, with links followed, if it may be opened.

        A DocumentError with the code `file-refused` is raised if it may not, whether it exists or not.
        """
        if not self.root_map and not self.anywhere:
            raise refused(
                f"the file {self.named(path)} was not opened, as these documents come from a network: list "
                "its folder under [roots] in the settings, or give --root"
            )
        real = os.path.realpath(path)
        self._require_inside(real, path)
        return real

    def _require_inside(self, real: str, path: Path) -> None:
        roots = [os.path.realpath(Path(here).expanduser()) for here in self.root_map.values()]
        place = PurePosixPath(real)
        if any(place.is_relative_to(folder) for folder in SYSTEM_FOLDERS):
            raise refused(f"the file {self.named(path)} was not opened: it belongs to the system")
        if roots and not any(place.is_relative_to(root) for root in roots):
            raise refused(
                f"the file {self.named(path)} was not opened: it is outside of the folders under [roots] in "
                "the settings (links are followed)"
            )

    @contextmanager
    def opened(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file that a document names, for the length of a `with` block.

        A DocumentError with the code `file-refused` is raised if it may not be opened or is no regular file;
        an OSError if it cannot be.
        """
        real, name = self.require(path), self.named(path)
        try:
            opened = open_regular(real, flags=os.O_NOFOLLOW, name=name)
        except OSError as error:
            # Where links lead is nobody's business: the error is about the name in the document.
            raise OSError(error.errno, error.strerror, name) from None
        with opened as file:
            # A folder may have been replaced by a link since.
            self._require_inside(_path_of(file), path)
            yield file


def _path_of(file: BinaryIO) -> str:
    """Return where an open file really is, by the system's own record."""
    if hasattr(fcntl, "F_GETPATH"):
        return fcntl.fcntl(file.fileno(), fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0").decode()
    return os.readlink(f"/proc/self/fd/{file.fileno()}")  # noqa: PTH115


def by_descriptor(file: BinaryIO) -> str:
    """Return a path that opens the same file again, whatever its name stands for by then."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112
    return f"{folder}/{file.fileno()}"


def _own_names() -> frozenset[str]:
    own = socket.gethostname().lower()
    return frozenset({"", "localhost", "127.0.0.1", "::1", own, own.partition(".")[0]})
