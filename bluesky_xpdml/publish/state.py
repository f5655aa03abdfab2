"""Folders of the user's state: what waits on disk for one container of one server, on this computer."""

import os
import re
import socket
import stat
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from bluesky_xpdml.errors import SettingsError

STATE_VARIABLE = "XDG_STATE_HOME"
"""Environment variable that names the folder of the user's state."""
_PRIVATE = 0o700
_LONGEST_NAME = 60
_DEFAULT_PORTS = {"http": 80, "https": 443}


def state_folder(uri: str, path: str, *, root: Path | None = None) -> Path:
    """Return the private folder for what waits for one container of a server; made if there is none.

    It is `ROOT/HOST/SERVER-CONTAINER-HASH`. The host is this computer's: homes are shared over networks, and
    the files in the folder only between processes of one computer. User names, passwords and keys of the
    address are in no part of the name.

    Parameters
    ----------
    uri
        Address of the Tiled server.
    path
        Container of the derived runs.
    root
        Folder above; if None, `$XDG_STATE_HOME/xpdml`, or `~/.local/state/xpdml` without that variable.

    Raises
    ------
    SettingsError
        If a folder belongs to another user, or cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = state_folder("http://user:secret@localhost:8000?api_key=x", "xpdml", root=Path(root))
    >>> folder.name
    'localhost-8000-xpdml-8a6c0ceb'
    """
    return private_folder(state_path(uri, path, root=root))


def state_path(uri: str, path: str, *, root: Path | None = None) -> Path:
    """Return where the folder of `state_folder` is, which may not exist."""
    server, container = _server(uri), "/".join(part for part in path.split("/") if part)
    digest = sha256(f"{server} {container}".encode()).hexdigest()[:8]
    readable = _slug(f"{server.partition('://')[2]}-{container}")
    return host_folder(root) / f"{readable}-{digest}"


def host_folder(root: Path | None = None) -> Path:
    """Return the folder that holds the state folders of this computer, which may not exist."""
    above = _default_root() if root is None else root.expanduser().absolute()
    return above / _slug(socket.gethostname())


def known_folders(uri: str, path: str, *, root: Path | None = None) -> list[Path]:
    """Return the existing state folder of a container; without an address, all of this computer."""
    found = [state_path(uri, path, root=root)] if uri else sorted(host_folder(root).glob("*"))
    return [folder for folder in found if folder.is_dir()]


def private_folder(folder: Path) -> Path:
    """Return a folder that only the user can enter, made with those above it if there is none.

    Raises
    ------
    SettingsError
        If it, or a folder shortly above it, belongs to another user, or it cannot be made.
    """
    try:
        folder.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        for parent in folder.parents[:2]:
            _require_safe(parent)
        found = folder.stat()
        if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) != _PRIVATE:
            folder.chmod(_PRIVATE)
    except OSError as error:
        msg = (
            f"expected to make the folder {folder}, found {error.strerror or error}: name another one as "
            f"outbox.folder in the settings, or by the variable {STATE_VARIABLE}"
        )
        raise SettingsError(msg) from error
    if found.st_uid != os.getuid():
        raise SettingsError(_foreign(folder, found.st_uid))
    return folder


def _require_safe(parent: Path) -> None:
    """Raise if another user could replace a folder in this one."""
    found = parent.stat()
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    if found.st_uid not in {0, os.getuid()} or (found.st_mode & stat.S_IWOTH and not is_sticky):
        raise SettingsError(_foreign(parent, found.st_uid))


def _foreign(folder: Path, owner: int) -> str:
    return (
        f"expected {folder} to be a folder that only user {os.getuid()} can change, found one of user "
        f"{owner}, or one that all may change: remove it, or name another one as outbox.folder in the "
        f"settings or by the variable {STATE_VARIABLE}"
    )


def _default_root() -> Path:
    named = Path(os.environ.get(STATE_VARIABLE, ""))
    # The specification of the variable says that relative paths are to be ignored.
    if named.is_absolute():
        return named / "xpdml"
    try:
        return Path.home() / ".local" / "state" / "xpdml"
    except RuntimeError as error:
        msg = f"expected the user's home, found none: name a folder by {STATE_VARIABLE} or as outbox.folder"
        raise SettingsError(msg) from error


def _server(uri: str) -> str:
    """Return an address in one form, without user, password and query."""
    parts = urlsplit(uri)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    port = parts.port or _DEFAULT_PORTS.get(scheme, 0)
    below = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{scheme}://{host}:{port}{below}"


def _slug(text: str) -> str:
    """Return a text as part of a path, without separators and special names."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME] or "unnamed"
