"""Documents from a 0MQ proxy, as `bluesky-0MQ-proxy` forwards them, read without trusting the sender.

By default Bluesky's own dispatcher unpickles messages, prints to standard output, and ends with a `KeyError`
at the first message whose name is not that of a document. This one refuses pickles, counts what it cannot
read by reason, and continues. Broken connections are restored by 0MQ.
"""

import ipaddress
import logging
import math
import time
from collections import Counter
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.errors import DocumentError, SourceError
from bluesky_xpdml.sources.curve import CurveKeys, CurveSecrets
from bluesky_xpdml.sources.stream import REQUIRED, OnDocument, note_refused, require_document
from bluesky_xpdml.sources.wire import decode, encode

if TYPE_CHECKING:
    import zmq
    from bluesky.callbacks.zmq import Publisher

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.2
"""Longest time until a stop is noticed [s]."""
BEAT = 10.0
"""Interval of heartbeats [s]; a connection without a response to three of them is broken."""
RETRY_AFTER = 5.0
"""Time until the next attempt after the proxy has refused the connection [s]."""
BROKEN_HANDSHAKES = 3
"""Handshakes in a row without a reason that count as a refusal: single ones come from restarts."""
WAITING = 100_000
"""Most messages that wait in the socket."""
LARGEST_MESSAGE = 1 << 29
"""Larger messages are not read [bytes]; one with many images is smaller."""


class ZmqSource:
    """Listens to a 0MQ proxy.

    Parameters
    ----------
    address
        Output of the proxy, such as `localhost:5578` or `ipc:///run/documents`.
    prefix
        Prefix of the publishers that count; messages of others are refused. If empty, all publishers count.
    allow_remote
        Whether the address may be on another computer without keys. The connection is then neither encrypted
        nor authenticated: everybody who reaches the proxy can send documents.
    keys
        Certificates for an encrypted and authenticated connection, to any computer; None for none. They are
        read now.

    Attributes
    ----------
    documents : int
        Documents passed on.
    refused : Counter
        Messages that were no documents, by reason.
    connected : bool
        Whether the connection is up.
    refusal : str
        Why the proxy refuses the connection, such as an unknown key; empty if it does not. The next attempt
        is made after five seconds.

    Raises
    ------
    SourceError
        If the address cannot be understood, or is on another computer and that is not allowed; if a file of
        the keys cannot be used.

    Examples
    --------
    >>> source = ZmqSource("localhost:5578")
    >>> source.address, source.documents
    ('tcp://localhost:5578', 0)
    """

    repeats = False

    def __init__(
        self,
        address: str,
        *,
        prefix: bytes = b"",
        allow_remote: bool = False,
        keys: CurveKeys | None = None,
    ) -> None:
        self.address = checked_address(address, allow_remote=allow_remote or keys is not None)
        self._keys = keys
        self._secrets = None if keys is None else keys.read()
        self._broken_handshakes = 0
        self._retry_at = math.inf
        self.refusal = ""
        self.prefix = checked_prefix(prefix)
        self.documents = 0
        self.refused: Counter[str] = Counter()
        self.connected = False

    def run(self, on_document: OnDocument, stop: Event) -> None:
        """Pass on every document, until `stop` is set and what had arrived by then is passed on.

        Parameters
        ----------
        on_document
            Called in this thread with each document.
        stop
            Set by another thread or a signal; noticed within 0.2 s.

        Raises
        ------
        SourceError
            If 0MQ does not take the address.
        """
        import zmq

        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _failures()
        with (
            zmq.Context() as context,
            _listener(context, self._secrets) as listening,
            # Before connecting: a connection within one computer is up at once.
            listening.get_monitor_socket(events) as monitor,
        ):
            _connect(listening, self.address)
            poller = zmq.Poller()
            poller.register(listening, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            while not stop.is_set():
                ready = dict(poller.poll(int(POLL_INTERVAL * 1e3)))
                if monitor in ready:
                    self._notice(monitor, listening)
                if time.monotonic() >= self._retry_at:
                    self._retry_at = math.inf
                    _connect(listening, self.address)
                if listening in ready:
                    self._take_waiting(listening, on_document, stop)
            self._take_waiting(listening, on_document, None)
            listening.disable_monitor()

    def settled(self, run: str) -> None:
        """Do nothing: what was sent once is not sent again."""

    def close(self) -> None:
        """Do nothing: `run` ends the connection."""

    def _take_waiting(
        self, listening: "zmq.Socket[bytes]", on_document: OnDocument, stop: Event | None
    ) -> None:
        """Pass on what waits in the socket."""
        import zmq

        for _ in range(WAITING):
            if stop is not None and stop.is_set():
                return
            try:
                parts = listening.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                name, document = self._read(parts)
            except DocumentError as error:
                if note_refused(self.refused, error):
                    logger.info("refused: %s", error)
            else:
                self.documents += 1
                on_document(name, document)

    def _read(self, parts: list[bytes]) -> tuple[str, dict[str, Any]]:
        """Return name and content of a document: `prefix name content`, as Bluesky's publisher sends it."""
        pieces = parts[0].split(b" ", 2) if len(parts) == 1 else ()
        if len(pieces) != 3:
            raise DocumentError("a message without prefix, name and content")
        prefix, name, content = pieces
        if self.prefix and prefix != self.prefix:
            raise DocumentError("a message of another prefix")
        known = name.decode("ascii", "replace")
        # Before the content is read: of a message that is no document it may be anything.
        if known not in REQUIRED:
            raise DocumentError("a message whose name is that of no document")
        document = decode(content)
        require_document(known, document)
        return known, document

    def _notice(self, monitor: "zmq.Socket[bytes]", listening: "zmq.Socket[bytes]") -> None:
        """Record what happened to the connection."""
        import zmq
        from zmq.utils.monitor import recv_monitor_message

        event = recv_monitor_message(monitor)["event"]
        if event & _failures():
            self._note_failure(event, listening)
            return
        was_connected, self.connected = self.connected, event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if self.connected:
            self._broken_handshakes, self.refusal = 0, ""
        if self.connected or was_connected:
            logger.info("%s %s", "connected to" if self.connected else "connection lost to", self.address)

    def _note_failure(self, event: int, listening: "zmq.Socket[bytes]") -> None:
        """Say once why the proxy refuses the connection, and have it tried again."""
        import zmq

        self._broken_handshakes += 1
        has_reason = event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        if has_reason or self._broken_handshakes >= BROKEN_HANDSHAKES:
            # 0MQ itself would try ten times a second, or, after a refusal with a reason, never again.
            with suppress(zmq.ZMQError):
                listening.disconnect(self.address)
            self._retry_at = time.monotonic() + RETRY_AFTER
            refusal = self._refusal(event)
            if refusal != self.refusal:
                self.refusal = refusal
                logger.warning("%s; it is tried again every %g s", refusal, RETRY_AFTER)

    def _refusal(self, event: int) -> str:
        import zmq

        if self._keys is None:
            return (
                f"the proxy at {self.address} refused the connection: it probably expects keys, or is no 0MQ "
                "proxy (--zmq-key and --zmq-server-key name the keys)"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return (
                f"the proxy at {self.address} refused the key in {self._keys.own}: its public certificate "
                "must be in the folder of the clients of the proxy"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return f"the proxy at {self.address} refused the key: it is not encrypted, or no 0MQ proxy"
        return (
            f"the proxy at {self.address} refused the key: it does not have the key in {self._keys.server}, "
            "or is not encrypted"
        )


def safe_publisher(
    address: str, *, prefix: bytes = b"", allow_remote: bool = False, keys: CurveKeys | None = None
) -> "Publisher":
    """Return a callback for a RunEngine that sends its documents to a 0MQ proxy, not pickled.

    It is Bluesky's own publisher with the serialiser of `bluesky_xpdml.sources.wire`, which never raises. As
    with every publisher of 0MQ, what is sent before the connection is up is lost.

    Parameters
    ----------
    address
        Input of the proxy, such as `localhost:5577`.
    prefix
        Identifies this publisher to listeners; may be empty.
    allow_remote
        Whether the address may be on another computer without keys.
    keys
        Certificates for an encrypted and authenticated connection, to any computer; None for none.

    Raises
    ------
    SourceError
        If the address cannot be understood, or is on another computer and that is not allowed; if a file of
        the keys cannot be used.

    Examples
    --------
    >>> publisher = safe_publisher("localhost:5577")
    >>> publisher("start", {"uid": "a", "time": 0.0})
    >>> publisher.close()
    """
    from bluesky.callbacks.zmq import ClientCurve, Publisher

    checked = checked_address(address, allow_remote=allow_remote or keys is not None)
    curve = None
    if keys is not None:
        keys.read()
        curve = ClientCurve(secret_path=keys.own, server_public_key=keys.server)
    return Publisher(checked, prefix=checked_prefix(prefix), serializer=encode, curve_config=curve)


def checked_prefix(prefix: bytes) -> bytes:
    """Return a prefix; a `SourceError` if there is a space in it, which would end it in the message."""
    if b" " in prefix:
        raise SourceError(f"expected a prefix without spaces, found {prefix!r}")
    return prefix


def checked_address(address: str, *, allow_remote: bool) -> str:
    """Return an address with its protocol; a `SourceError` if it cannot be used.

    Examples
    --------
    >>> checked_address("127.0.0.1:5578", allow_remote=False)
    'tcp://127.0.0.1:5578'
    >>> checked_address("beamline.example:5578", allow_remote=False)
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.SourceError: expected an address on this computer, found beamline.example: ...
    """
    protocol, _, rest = address.rpartition("://")
    if protocol == "ipc" and rest:
        return address
    host, _, port = rest.rpartition(":")
    if protocol not in {"", "tcp"} or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SourceError(f"expected an address such as localhost:5578 or ipc:///path, found {address!r}")
    if not allow_remote and not _is_here(host.strip("[]")):
        raise SourceError(
            f"expected an address on this computer, found {host}: without keys 0MQ neither encrypts nor asks "
            "who is there; name the keys of the connection (--zmq-key and --zmq-server-key, keys=), use a "
            "tunnel to localhost, or allow it in a closed network (--allow-remote, allow_remote=True)"
        )
    return f"tcp://{rest}"


def _is_here(host: str) -> bool:
    """Return whether a name or address is that of this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Any other name may resolve to another address the next time.
        return host.lower() == "localhost"


def _listener(context: "zmq.Context[zmq.Socket[bytes]]", secrets: CurveSecrets | None) -> "zmq.Socket[bytes]":
    """Return a socket for everything that a proxy sends."""
    import zmq

    listening = context.socket(zmq.SUB)
    listening.set(zmq.LINGER, 0)
    listening.set(zmq.RCVHWM, WAITING)
    listening.set(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
    listening.set(zmq.HEARTBEAT_IVL, int(BEAT * 1e3))
    listening.set(zmq.HEARTBEAT_TIMEOUT, int(3.0 * BEAT * 1e3))
    listening.set(zmq.SUBSCRIBE, b"")
    if secrets is not None:
        listening.set(zmq.CURVE_PUBLICKEY, secrets.public)
        listening.set(zmq.CURVE_SECRETKEY, secrets.secret)
        listening.set(zmq.CURVE_SERVERKEY, secrets.server)
    return listening


def _connect(listening: "zmq.Socket[bytes]", address: str) -> None:
    import zmq

    try:
        listening.connect(address)
    except zmq.ZMQError as error:
        raise SourceError(f"expected an address that 0MQ can connect to, found {address}: {error}") from error


def _failures() -> int:
    """Return the events of the monitor that report a failed handshake."""
    import zmq

    return int(
        zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    )
