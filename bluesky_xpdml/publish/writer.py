"""One run written to a Tiled server: whole, or not at all, also if several processes write it at once."""

import logging
import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from itertools import groupby
from typing import Any
from uuid import uuid4

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.layout import (
    Document,
    NamedDocument,
    merged_rows,
    rows,
    stored_descriptor,
    stored_stop,
    stream_tables,
)
from bluesky_xpdml.publish.nodes import STREAM_SPECS, JsonObject, Nodes, status_of
from bluesky_xpdml.publish.outbox_entry import described
from bluesky_xpdml.publish.published import ACCESS_TAGS
from bluesky_xpdml.records import PURPOSE

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""A run is begun so often before it counts as not published."""
STALL_TIMEOUT = 5.0
"""A run that another process is writing counts as abandoned after so long without progress [s]."""
POLL_INTERVAL = 0.2
"""Pause between two looks at a run that another process is writing [s]."""
PREDICTION_SPEC: JsonObject = {"name": "XpdmlPrediction", "version": "1"}
RUN_SPEC: JsonObject = {"name": "BlueskyRun", "version": "3.0"}
WRITER = "xpdml_writer"
"""Entry of the metadata of a run that is being written: who writes it. The stop document takes its place."""


class RunWriter:
    """Writes one run, which other processes may be writing too.

    Only who began a run can end it: its stop document is added on the condition that the run still states
    its writer. So a run with a stop document is whole, and readers take it as such.

    Parameters
    ----------
    nodes
        The container.
    documents
        Of the whole run. Without a stop document the run is left unfinished.
    left
        By uid, the writers of runs that an earlier attempt of this process could not remove.
    """

    def __init__(self, nodes: Nodes, documents: Sequence[NamedDocument], left: dict[str, str]) -> None:
        self._nodes = nodes
        self._start = documents[0][1]
        self._stop = next((document for name, document in documents if name == "stop"), None)
        self._uid: str = self._start["uid"]
        self._label = f"the answer {self._uid} to {described(self._start, added=0.0)}"
        self._tags = access_tags(self._start)
        self._streams = stream_tables(documents)
        # An attempt that lost its connection is known again by its writer.
        self._writer = left.get(self._uid) or str(uuid4())
        self._left = left
        self._is_contended = False
        self._has_conflict = False

    def write(self) -> bool:
        """Write the run unless the server has it, and return whether it was written.

        Errors of httpx are raised after what was written of the run is removed.
        """
        import httpx

        for remaining in reversed(range(ATTEMPTS)):
            if not self._begin():
                self._is_contended = True
                if self._is_published():
                    return False
                continue
            try:
                self._fill()
            except (httpx.HTTPError, OSError) as error:
                self._left[self._uid] = self._writer
                if not self._is_taken(error):
                    lives = self._remove_own()
                    if not remaining or not lives or self._is_final(error):
                        raise
                logger.warning("%s is tried again: %.500a", self._label, str(error))
                # Two that disturb each other must not try again at the same moment.
                time.sleep(random.uniform(0.0, 5.0 * POLL_INTERVAL))  # noqa: S311 - not secret
            else:
                self._left.pop(self._uid, None)
                return True
        raise PublishError(
            f"expected to write run {self._uid}, others removed it {ATTEMPTS} times: try again later"
        )

    def _begin(self) -> bool:
        """Make the run with its start document; False if there is one."""
        import httpx

        specs = [PREDICTION_SPEC, RUN_SPEC] if self._start.get("purpose") == PURPOSE else [RUN_SPEC]
        metadata = {"start": self._start, WRITER: self._writer}
        try:
            self._nodes.create_container([self._uid], metadata, specs, self._tags)
        except httpx.HTTPStatusError as error:
            if status_of(error) == HTTPStatus.CONFLICT:
                return self._is_begun()
            raise
        except (httpx.HTTPError, OSError):
            # The server may have made it, and its answer was lost.
            self._left[self._uid] = self._writer
            raise
        return True

    def _is_begun(self) -> bool:
        """Return whether the run is as this writer began it: the answer to that was lost."""
        found = self._nodes.metadata([self._uid])
        return found is not None and found[0].get(WRITER) == self._writer and not found[1]

    def _fill(self) -> None:
        for stream in self._streams:
            path = [self._uid, stream.name]
            self._nodes.create_container(path, stream.metadata, STREAM_SPECS, self._tags)
            self._nodes.create_table(path, stream.table.schema, self._tags)
            self._nodes.write_rows(path, stream.table)
        if self._stop is None:
            return
        end: list[JsonObject] = [
            {"op": "test", "path": f"/{WRITER}", "value": self._writer},
            {"op": "remove", "path": f"/{WRITER}"},
            {"op": "add", "path": "/stop", "value": stored_stop(self._stop, self._streams)},
        ]
        self._nodes.patch_metadata([self._uid], end)

    def _is_taken(self, error: Exception) -> bool:
        """Return whether an error comes from another process that removed this run, and may write it anew."""
        status = status_of(error)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            # Tiled answers so too if the run no longer states this writer.
            found = self._nodes.metadata([self._uid])
            taken = found is None or found[0].get(WRITER) != self._writer
        else:
            taken = status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}
        self._has_conflict = self._has_conflict or taken
        return taken

    def _is_final(self, error: Exception) -> bool:
        """Return whether a repetition would fail as well; a removal by another process ends in status 500."""
        status = status_of(error)
        return bool(status) and not (self._is_contended and status == HTTPStatus.INTERNAL_SERVER_ERROR)

    def _remove_own(self) -> bool:
        """Remove what was written of the run, and return whether the server answers."""
        import httpx

        try:
            self._remove_if_by(self._writer)
        except (httpx.HTTPError, OSError) as error:
            logger.warning("%s is left incomplete: %.500a", self._label, str(error))
            return False
        del self._left[self._uid]
        return True

    def _remove_if_by(self, writer: Any) -> None:
        """Remove the run if it is still the one that a writer, or one that states none, began."""
        found = self._nodes.metadata([self._uid])
        if found is not None and found[0].get(WRITER) == writer:
            self._nodes.remove([self._uid])

    def _is_published(self) -> bool:
        """Return whether the server has the whole run; what is left of an incomplete one is removed."""
        found = self._nodes.metadata([self._uid])
        if found is None:
            return False
        metadata, n_streams = found
        if "stop" in metadata and not self._has_conflict and (n_streams or not self._streams):
            return True
        writer = metadata.get(WRITER)
        if writer is None or writer != self._left.get(self._uid):
            is_whole, writer = self._wait_for_other()
            if is_whole:
                return True
        logger.warning("%s is incomplete; it is written anew", self._label)
        with _ignored(HTTPStatus.NOT_FOUND):
            self._remove_if_by(writer)
        return False

    def _wait_for_other(self) -> tuple[bool, str | None]:
        """Wait for another process as long as it makes progress; return whether it is whole, and whose."""
        # Two processes that wait for each other must not give up at the same moment.
        patience = STALL_TIMEOUT * random.uniform(1.0, 1.5)  # noqa: S311 - not secret
        writer: str | None = None
        seen: tuple[object, ...] = ()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            found = self._nodes.metadata([self._uid])
            if found is None:
                return False, None
            sizes = self._nodes.sizes([self._uid])
            if "stop" in found[0] and all(sizes.get(stream.name, 0) for stream in self._streams):
                return True, None
            writer = found[0].get(WRITER)
            state = writer, "stop" in found[0], sizes
            if state != seen:
                seen, end = state, time.monotonic() + patience
            time.sleep(POLL_INTERVAL)
        return False, writer


def extend_run(nodes: Nodes, documents: Sequence[NamedDocument]) -> None:
    """Write the next documents of a run in progress; each row can be read at once.

    Nothing is remembered between calls: an event finds its table by its descriptor, whose uid is that of the
    run and the name of the stream, with a slash between them. Rows that are written again, because the answer
    of the server was lost, replace themselves.
    """
    new = {str(document["uid"]) for name, document in documents if name == "descriptor"}
    for name, group in groupby(documents, key=lambda each: each[0]):
        part = [document for _, document in group]
        if name == "event":
            _write(nodes, part, new=new)
        else:
            for document in part:
                _OTHERS[name](nodes, document)


def stream_uid(run: str, stream: str) -> str:
    """Return the uid of the descriptor of a stream of a run in progress."""
    return f"{run}/{stream}"


def access_tags(start: Mapping[str, Any]) -> list[str] | None:
    """Return the access tags of a run; None if it has none."""
    tags = start.get(ACCESS_TAGS)
    return list(tags) if tags else None


def _start(nodes: Nodes, start: Document) -> None:
    # A live run has a random uid: if it exists, an earlier attempt made it.
    with _ignored(HTTPStatus.CONFLICT):
        nodes.create_container([start["uid"]], {"start": start}, [RUN_SPEC], access_tags(start))


def _describe(nodes: Nodes, descriptor: Document) -> None:
    run, stream = descriptor["run_start"], descriptor["name"]
    found = nodes.metadata([run])
    tags = access_tags(found[0].get("start", {})) if found else None
    with _ignored(HTTPStatus.CONFLICT):
        nodes.create_container([run, stream], stored_descriptor(descriptor), STREAM_SPECS, tags)
    schema = rows(sorted(descriptor["data_keys"]), []).schema
    with _ignored(HTTPStatus.CONFLICT):
        nodes.create_table([run, stream], schema, tags)


def _write(nodes: Nodes, events: Sequence[Document], *, new: Collection[str]) -> None:
    """Write events behind the rows that are there; `new` names the descriptors of tables without any."""
    for descriptor, group in groupby(events, key=lambda event: str(event["descriptor"])):
        run, slash, stream = descriptor.partition("/")
        if not slash:
            raise PublishError(f"expected the uid of a live stream as RUN/STREAM, found {descriptor!a}")
        part = list(group)
        table = rows(sorted(part[0]["data"]), part)
        if descriptor not in new:
            table = merged_rows(nodes.rows([run, stream]), table)
        nodes.write_rows([run, stream], table)


def _finish(nodes: Nodes, stop: Document) -> None:
    nodes.patch_metadata([stop["run_start"]], [{"op": "add", "path": "/stop", "value": stop}])


_OTHERS = {"start": _start, "descriptor": _describe, "stop": _finish}


@contextmanager
def _ignored(status: int) -> Iterator[None]:
    """Suppress the answer of a server with one status."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        if status_of(error) != status:
            raise
