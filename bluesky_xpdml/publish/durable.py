"""The whole chain from a derived run to a server: outbox, sender, and the publisher into its container."""

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.publish.outbox import DEFAULT_LIMIT, Outbox
from bluesky_xpdml.publish.sender import OutboxPublisher
from bluesky_xpdml.publish.sent_reports import OnSent
from bluesky_xpdml.publish.state import state_folder
from bluesky_xpdml.publish.tiled import LivePublisher, TiledPublisher

logger = logging.getLogger(__name__)

_LATE_IMPORTS = ("concurrent.futures.process", "concurrent.futures.thread", "tiled.client")
"""What a connection to Tiled needs and what registers itself for the end of the interpreter."""


def outbox_publisher(
    uri: str,
    *,
    api_key: str | None = None,
    path: str = "xpdml",
    folder: Path | None = None,
    limit: float = DEFAULT_LIMIT,
    enabled: bool = True,
    wrap: Callable[[TiledPublisher], LivePublisher] | None = None,
    on_sent: OnSent | None = None,
) -> LivePublisher:
    """Return a publisher into a container of a Tiled server, with an outbox before it.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key with the right to write; None if the server or the address needs none.
    path
        Container of the derived runs; made if there is none.
    folder
        Above the folders of outboxes; the user's state folder if None.
    limit
        Largest sum of what waits [bytes].
    enabled
        Whether there is an outbox; without one, the server must answer now and always.
    wrap
        Returns what publishes into the server from the publisher into its container, such as one that pairs.
    on_sent
        Called with the start document of a run when the server has it, or why it refused it.

    Raises
    ------
    PublishError
        If the outbox is of a later version, or the server refuses the key or is none of Tiled; without an
        outbox, also if it does not answer.
    SettingsError
        If the folder cannot be made, or belongs to another user.
    """

    def opened(connect: Callable[..., TiledPublisher] = TiledPublisher.lazily) -> LivePublisher:
        publisher = connect(uri, api_key=api_key, path=path)
        return publisher if wrap is None else wrap(publisher)

    if not enabled:
        return opened(TiledPublisher.from_uri)
    # Now, because they cannot be imported any more while the interpreter ends, when most may wait.
    for name in _LATE_IMPORTS:
        import_module(name)
    outbox = Outbox(state_folder(uri, path, root=folder), limit)
    try:
        # The container is there from the start, and a wrong key is noticed before anything is measured.
        first = opened(TiledPublisher.from_uri)
    except ServerAwayError as error:
        logger.warning("derived runs wait in %s until there is a server: %s", outbox.path, error)
        first = None
    except PublishError:
        outbox.close()
        raise
    return OutboxPublisher(opened, outbox, publisher=first, on_sent=on_sent)
