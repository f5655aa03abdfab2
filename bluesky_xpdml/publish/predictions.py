"""Predictions in Tiled, found by what they say; the server does the searching."""

import time
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.publish.documents import PURPOSE
from bluesky_xpdml.publish.published import PublishedPrediction, published
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.publish.tiled import open_existing

if TYPE_CHECKING:
    from tiled.client.container import Container

POLL_INTERVAL = 0.05
"""Pause between two questions for a prediction that is awaited [s]."""


class PredictionCatalog:
    """The derived runs of a Tiled container.

    Parameters
    ----------
    container
        Where the derived runs are.
    """

    def __init__(self, container: "Container") -> None:
        self.container: Any = container

    @classmethod
    def from_uri(cls, uri: str, *, api_key: str | None = None, path: str = "xpdml") -> "PredictionCatalog":
        """Connect to a server; see `open_existing` for parameters and errors."""
        return cls(open_existing(uri, api_key=api_key, path=path))

    def find(self, query: Query, *, limit: int = 100, superseded: bool = False) -> list[PublishedPrediction]:
        """Return the predictions that fulfil a query, newest first; by default the latest answers only."""
        nodes = self._search(query)
        found = sorted(
            (published(node.metadata["start"]) for node in nodes.values()), key=lambda each: -each.time
        )
        if not superseded:
            found = list({each.question: each for each in reversed(found)}.values())[::-1]
        return found[:limit]

    def of_run(self, raw_uid: str, *, superseded: bool = False) -> list[PublishedPrediction]:
        """Return the predictions of a raw run, newest first; joint ones of which it is a part too."""
        return self.find(Query(raw_uid=raw_uid), superseded=superseded)

    def wait(self, query: Query, *, timeout: float) -> PublishedPrediction | None:
        """Return the newest prediction that fulfils a query once there is one; None after a time [s]."""
        end = time.monotonic() + timeout
        while True:
            found = self.find(query, limit=1)
            if found:
                return found[0]
            if time.monotonic() > end:
                return None
            time.sleep(POLL_INTERVAL)

    def _search(self, query: Query) -> Any:
        """Return the part of the container that fulfils a query."""
        from tiled.queries import Key

        wanted: dict[str, Any] = {
            "purpose": PURPOSE,
            "raw_uid": query.raw_uid,
            "sample.name": query.sample,
            "sample.uid": query.sample_uid,
            "origin.proposal": query.proposal,
            "origin.beamline": query.beamline,
            "element": query.element,
            "technique": query.technique,
            "origin.trial.campaign": query.campaign,
        }
        nodes = self.container
        for key, value in wanted.items():
            if value:
                nodes = nodes.search(Key(f"start.{key}") == value)
        for name, (low, high) in query.descriptors.items():
            value = Key(f"start.descriptors.{name}.value")
            nodes = nodes.search(value >= low).search(value <= high)
        return nodes
