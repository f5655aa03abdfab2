"""Keys of an encrypted 0MQ connection, read from certificates as pyzmq writes them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bluesky_xpdml.errors import SourceError
from bluesky_xpdml.files import exposure, open_regular, require_size, shown

LARGEST_CERTIFICATE = 65_536
"""No certificate is larger [bytes]."""
_KEY = re.compile(rb"\s*(public|secret)-key\s*=\s*[\"']?([0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40})[\"']?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveKeys:
    """Certificates with which one end of a 0MQ connection shows who it is, and recognises the other end.

    `zmq.auth.create_certificates(folder, name)` writes them. The proxy needs `server.key_secret` and the
    public certificates of all clients; a client needs its own secret certificate and `server.key`.

    Parameters
    ----------
    own
        Secret certificate of this computer, such as `client.key_secret`; only its owner may read the file.
    server
        Public certificate of the proxy, such as `server.key`.

    Examples
    --------
    >>> import tempfile, zmq.auth
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _, own = zmq.auth.create_certificates(folder, "client")
    ...     server, _ = zmq.auth.create_certificates(folder, "server")
    ...     Path(own).chmod(0o600)
    ...     secrets = CurveKeys(own=Path(own), server=Path(server)).read()
    >>> len(secrets.public), len(secrets.server)
    (40, 40)
    """

    own: Path
    server: Path

    @classmethod
    def of(cls, own: Path | None, server: Path | None) -> Self | None:
        """Return the keys of two options; None without both.

        Raises
        ------
        SourceError
            If there is only one of them.

        Examples
        --------
        >>> CurveKeys.of(Path("client.key_secret"), None)
        Traceback (most recent call last):
        ...
        bluesky_xpdml.errors.SourceError: expected two files of keys, found one: ...
        """
        if own is not None and server is not None:
            return cls(own=own, server=server)
        if own is not server:
            raise SourceError(
                "expected two files of keys, found one: the own secret certificate (--zmq-key) and the "
                "public certificate of the proxy (--zmq-server-key) are needed together"
            )
        return None

    def read(self) -> "CurveSecrets":
        """Return what is in the files.

        Raises
        ------
        SourceError
            If a file cannot be read or is no certificate, the secret one may be read by others, or the other
            one holds the secret of the proxy. The message holds nothing of the keys.
        """
        own = _certificate(self.own, private=True)
        server = _certificate(self.server, private=False)
        if b"secret" not in own:
            raise SourceError(
                f"expected a secret certificate in {shown(self.own)}, found a public one: name the file "
                "client.key_secret that zmq.auth.create_certificates wrote"
            )
        if b"secret" in server:
            raise SourceError(
                f"expected the public certificate of the proxy in {shown(self.server)}, found its secret "
                "one: copy only server.key to this computer, and make the proxy a new pair of keys"
            )
        return CurveSecrets(public=own[b"public"], secret=own[b"secret"], server=server[b"public"])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CurveSecrets:
    """The keys themselves, 40 characters each."""

    public: bytes
    secret: bytes
    server: bytes


def _certificate(path: Path, *, private: bool) -> dict[bytes, bytes]:
    """Return the keys in a certificate by kind, at least the public one."""
    try:
        with open_regular(path) as file:
            exposed = exposure(file) if private else ""
            require_size(file, LARGEST_CERTIFICATE, path)
            content = file.read(LARGEST_CERTIFICATE)
    except (OSError, ValueError) as error:
        found = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise SourceError(
            f"expected a certificate of 0MQ that this user can read in {shown(path)}, found: {found}"
        ) from error
    if exposed:
        raise SourceError(
            f"expected a secret certificate in {shown(path)} that only its owner may read, found {exposed}: "
            f"chmod 600 {shown(path)}"
        )
    matches = map(_KEY.fullmatch, content.splitlines())
    keys = {match[1]: match[2] for match in matches if match}
    if b"public" not in keys:
        raise SourceError(
            f"expected a certificate of 0MQ in {shown(path)}, found no public key: name a file that "
            "zmq.auth.create_certificates wrote"
        )
    return keys
