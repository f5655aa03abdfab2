"""The key of a server: from the environment, a private file or the keyring; never part of an address.

An address with a key in it ends in the logs of every computer on its way, so keys are taken out of addresses
before these are used.
"""

import base64
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from bluesky_xpdml.errors import DocumentError, PublishError, SettingsError, needs_extra
from bluesky_xpdml.files import exposure, open_regular

LONGEST_KEY = 4096
"""No key of a server is longer [characters]."""
API_KEY = "api_key"
"""Entry of an address that holds the key of a Tiled server."""


class Address(NamedTuple):
    """An address of a server, and what it held of secrets."""

    uri: str
    """Without key and password."""
    api_key: str | None
    headers: dict[str, str]
    """What a name and a password of the address become; empty if it held none."""


def parted(uri: str, api_key: str | None = None) -> Address:
    """Return an address without its secrets, the key among them, and what else is to be sent.

    A PublishError is raised if it is no address; the message holds nothing of it.

    Examples
    --------
    >>> parted("http://localhost:8000/api/v1?api_key=secret")
    Address(uri='http://localhost:8000/api/v1', api_key='secret', headers={})
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise PublishError(
            "expected the address of a server, such as http://localhost:8000, found another text"
        ) from None
    entries = parse_qsl(parts.query, keep_blank_values=True)
    keys = [value for name, value in entries if name == API_KEY]
    query = urlencode([(name, value) for name, value in entries if name != API_KEY])
    login, _, host = parts.netloc.rpartition("@")
    headers = {}
    if login:
        word = base64.b64encode(unquote(login).encode()).decode()
        headers["Authorization"] = f"Basic {word}"
    clean = parts._replace(netloc=host, query=query).geturl()
    return Address(clean, api_key or (keys[0] if keys else None) or None, headers)


def key_in_file(path: Path) -> str:
    """Return the key in a file.

    A SettingsError is raised if it cannot be read, others may read it, or it holds anything but one word; the
    message holds nothing of it.
    """
    try:
        with open_regular(path) as file:
            exposed = exposure(file)
            content = file.read(LONGEST_KEY + 1)
    except (OSError, ValueError) as error:
        said = str(error) if isinstance(error, DocumentError) else type(error).__name__
        raise SettingsError(
            f"the key in {path}, which tiled.api_key_file names, cannot be read: {said}"
        ) from None
    if exposed:
        raise SettingsError(
            f"expected a key in {path} that only its owner may read, found {exposed}: chmod 600 {path}"
        )
    return _checked(content, f"{path}, which tiled.api_key_file names")


def _checked(content: bytes, where: str) -> str:
    words = content.split()
    if len(words) != 1 or len(content) > LONGEST_KEY or not words[0].isascii():
        raise SettingsError(f"expected one key and nothing else in {where}, found another text")
    return words[0].decode()


def key_in_keyring(service: str, uri: str) -> str:
    """Return the key that the keyring of the user holds for a service and the host of an address.

    Raises MissingExtraError if the package is not installed, SettingsError if there is no such key.
    """
    with needs_extra("keyring"):
        import keyring
        from keyring.errors import KeyringError
    host = urlsplit(uri).netloc.rpartition("@")[2]
    try:
        key = keyring.get_password(service, host)
    except KeyringError as error:
        raise SettingsError(
            f"the keyring, which tiled.api_key_keyring names, cannot be used: {type(error).__name__}; unlock "
            "it, or set TILED_API_KEY"
        ) from None
    if not key:
        raise SettingsError(
            f"expected a key for {host} of the service {service!r} in the keyring, found none: "
            f"keyring set {service} {host}"
        )
    return _checked(key.encode(), f"the keyring for {host}")
