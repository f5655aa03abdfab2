"""Derived runs found again in Tiled, on the server, by what they say in their start document."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiled.client.container import Container


def find_predictions(container: "Container", raw_uid: str) -> list[Any]:
    """Return the derived runs of a raw run, oldest first; an empty list where there is none.

    A run is found as soon as its start document, which holds the answer, is written; its streams are there
    once its metadata hold a `stop`. A run without streams is falsy, as every Tiled container is.

    Parameters
    ----------
    container
        Where the derived runs are, or any container above.
    raw_uid
        Start uid of the raw run.
    """
    from tiled.queries import Key

    found = container.search(Key("start.raw_uid") == raw_uid).values()
    return sorted(found, key=lambda run: run.metadata["start"]["time"])
