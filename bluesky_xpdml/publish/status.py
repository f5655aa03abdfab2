"""What each watcher and callback does at this moment, written beside its predictions and to a local file.

One node per process, `<container>.status/<host>-<pid>`, holds the record in its metadata. It is replaced
every `INTERVAL` seconds without leaving revisions, and removed when the process ends as it should; one that
was killed leaves a record that is stale after `STALE` seconds.
"""

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from bluesky_xpdml.publish.documents import plain_mapping
from bluesky_xpdml.publish.nodes import JsonObject, Nodes, publish_errors, status_of
from bluesky_xpdml.publish.outbox_entry import LONGEST_TEXT, described, text
from bluesky_xpdml.publish.published import ACCESS_TAGS, as_list, as_mapping
from bluesky_xpdml.vocabulary import ReasonCode

Record = TypeVar("Record")

INTERVAL = 10.0
"""Between two records of one process [s]."""
STALE = 60.0
"""A record that is older comes from a process that does not live, or hangs [s]."""
LONG_LAG = 600.0
"""A run that waits longer for its answer is a trouble [s]."""
STATUS_SPEC: JsonObject = {"name": "XpdmlStatus", "version": "1"}
ENTRY = "status"
"""Entry of the metadata that holds the record."""
_SUFFIX = ".status"
_MOST_COUNTS = 100
_LARGEST_FILE = 1_000_000


class ProcessKind(StrEnum):
    """What a process does with documents."""

    SESSION = "session"
    """A callback in the process of the RunEngine."""
    WATCH = "watch"
    """A process of its own, fed by a stream of documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAnswer:
    """The derived run that was answered last."""

    time: float = 0.0
    """When [s since 1970]."""
    raw_uid: str = ""
    """Of the first raw run; empty for files, and beside the predictions if the run has access tags."""
    sample: str = ""
    """Its name; empty beside the predictions if the run has access tags."""
    scan_id: str = ""
    technique: str = ""
    element: str = ""
    verdict: str = ""
    codes: tuple[str, ...] = ()
    """Reason codes, each once."""
    restricted: bool = False
    """Whether the run has access tags: not everybody who sees the status may see the run."""

    @classmethod
    def of(cls, start: Mapping[str, Any]) -> "LastAnswer":
        """Return the record of the start document of a derived run, whose time is that of the answer."""
        answered = _number(start.get("time"), float) or 0.0
        entry, quality = described(start, added=answered), as_mapping(start.get("quality"))
        return cls(
            time=answered,
            raw_uid=entry.raw_uid,
            sample=entry.sample,
            scan_id=entry.scan_id,
            technique=entry.technique,
            element=entry.element,
            verdict=text(quality.get("verdict")),
            codes=tuple(dict.fromkeys(map(text, as_list(quality.get("codes"))))) or (ReasonCode.UNSPECIFIED,),
            restricted=bool(start.get(ACCESS_TAGS)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """What waits for the server."""

    entries: int = 0
    """Derived runs, and parts of live ones."""
    bytes: int = 0
    """Their size on disk."""
    server_is_away: bool = False
    """Whether they wait because the server could not be reached when last tried."""
    last_error: str = ""
    """Why something last could not be sent; empty if nothing waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapCounts:
    """What did not arrive."""

    events: int = 0
    """Events that are missing in runs that ended."""
    unstopped: int = 0
    """Runs whose stop document has not come."""
    unstarted: int = 0
    """Runs that ended without a start document; they are not answered."""
    refused: int = 0
    """Messages that were no documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a watcher or a callback does, as it was at one time.

    Parameters
    ----------
    name
        Of the node: host and process, and a number for further callbacks of one process.
    host, pid
        Where it runs.
    kind
        `session` or `watch`; another text if a later version wrote it.
    version
        Of this package.
    source
        What feeds it, without keys; empty for the RunEngine of the process.
    server, container
        Where its predictions go; the address without keys.
    started, time
        When the process began to listen, and when this was written [s since 1970].
    documents, runs, predicted, failed, ignored, unpublished
        Counts since then, as `XpdmlCallback.statistics`.
    backlog
        Runs that ended and are not answered; None if nothing counts them (neither outbox nor isolation).
    open_runs
        Runs that have begun and not ended.
    lag
        Time since the oldest run of the backlog ended [s]; 0 if there is none, None as `backlog`.
    last_answer
        The derived run that was answered last; None if there was none.
    outbox
        What waits for the server.
    failures
        By reason code, the failed derived runs that state it, and those that could not be published.
    gaps
        What did not arrive.
    memory, memory_of_analysis
        Of this process, and of that of the analysis [bytes]; 0 where the system does not say.

    Examples
    --------
    >>> status = Status(name="ws1-42", host="ws1", pid=42, time=1000.0, backlog=0, lag=0.0)
    >>> Status.from_json(status.to_json()) == status
    True
    >>> status.is_stale(now=1061.0), status.troubles(now=1030.0)
    (True, [])
    """

    name: str = ""
    host: str = ""
    pid: int = 0
    kind: str = ""
    version: str = ""
    source: str = ""
    server: str = ""
    container: str = ""
    started: float = 0.0
    time: float = 0.0
    documents: int = 0
    runs: int = 0
    predicted: int = 0
    failed: int = 0
    ignored: int = 0
    unpublished: int = 0
    backlog: int | None = None
    open_runs: int = 0
    lag: float | None = None
    last_answer: LastAnswer | None = None
    outbox: OutboxStatus = field(default_factory=OutboxStatus)
    failures: Mapping[str, int] = field(default_factory=dict)
    gaps: GapCounts = field(default_factory=GapCounts)
    memory: int = 0
    memory_of_analysis: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON that every server stores."""
        known = asdict(self)
        counts = known.pop("failures")
        return plain_mapping(known) | {"failures": {str(code): int(count) for code, count in counts.items()}}

    @classmethod
    def from_json(cls, value: object) -> "Status":
        """Return the record of plain JSON; unknown entries are skipped, unfit ones are the defaults."""
        known = as_mapping(value)
        counts = list(as_mapping(known.get("failures")).items())[:_MOST_COUNTS]
        last = known.get("last_answer")
        return replace(
            _read(cls(), known),
            backlog=_number(known.get("backlog"), int),
            lag=_number(known.get("lag"), float),
            last_answer=_read(LastAnswer(), last) if isinstance(last, Mapping) else None,
            outbox=_read(OutboxStatus(), as_mapping(known.get("outbox"))),
            failures={
                text(code): number for code, count in counts if (number := _number(count, int)) is not None
            },
            gaps=_read(GapCounts(), as_mapping(known.get("gaps"))),
        )

    def public(self) -> "Status":
        """Return what may stand beside the predictions: nothing of a run that has access tags."""
        last = self.last_answer
        if last is None or not last.restricted:
            return self
        # The server's words on a run with tags may name them.
        outbox = replace(self.outbox, last_error="")
        return replace(self, last_answer=replace(last, raw_uid="", sample="", scan_id=""), outbox=outbox)

    def age(self, now: float | None = None) -> float:
        """Return how old the record is [s]; 0 if the clock of its computer is ahead."""
        return max((time.time() if now is None else now) - self.time, 0.0)

    def is_stale(self, now: float | None = None) -> bool:
        """Return whether the process has not written its record for a minute."""
        return self.age(now) > STALE

    def troubles(self, now: float | None = None) -> list[str]:
        """Return what is wrong, for people; empty if nothing is."""
        waits = self.outbox.entries > 0
        found = {
            f"stale: no sign for {self.age(now):.0f} s": self.is_stale(now),
            f"server away: {self.outbox.last_error}": waits and self.outbox.server_is_away,
            f"refused: {self.outbox.last_error}": waits
            and bool(self.outbox.last_error)
            and not self.outbox.server_is_away,
            f"missing: {self.gaps.unstarted} runs came without their start document; see xpdml catch-up": (
                self.gaps.unstarted > 0
            ),
            f"behind: a run waits for {self.lag or 0.0:.0f} s": (self.lag or 0.0) > LONG_LAG,
        }
        return [trouble for trouble, is_so in found.items() if is_so]


def status_path(path: str) -> str:
    """Return the container of the records of those who publish into a container.

    Examples
    --------
    >>> status_path("/proposal-1/xpdml/")
    'proposal-1/xpdml.status'
    """
    return "/".join(part for part in path.split("/") if part) + _SUFFIX


def read_statuses(container: Any) -> list[Status]:
    """Return all records in a container, in the order of their names.

    Parameters
    ----------
    container
        Client of the container of the records: of `status_path` of that of the predictions.

    Raises
    ------
    PublishError
        If the server does not answer within some seconds, or refuses.

    Examples
    --------
    >>> from bluesky_xpdml.publish import open_existing
    >>> def living(uri):
    ...     statuses = read_statuses(open_existing(uri, path=status_path("xpdml")))
    ...     return [each.name for each in statuses if not each.is_stale()]
    """
    with publish_errors("read the status of watchers", str(container.uri)):
        return _statuses(Nodes(container).metadata_of_all(()))


def statuses_beside(uri: str, *, api_key: str | None, path: str) -> list[Status]:
    """Return the records of those who publish into a container; empty if nobody does.

    Parameters
    ----------
    uri, api_key
        Address and key of the server.
    path
        Container of the predictions.

    Raises
    ------
    PublishError
        If the server does not answer within some seconds, or refuses.
    """
    from bluesky_xpdml.publish.tiled import connect

    place = status_path(path)
    root: Any = connect(uri, api_key=api_key)
    with closing(root.context.http_client), publish_errors(f"open {place}", str(root.uri)):
        return read_statuses(root[place]) if place in root else []


def read_status_files(folder: Path) -> list[Status]:
    """Return the records in a state folder; what is no record is skipped."""
    found = {}
    for path in folder.glob("status-*.json"):
        try:
            with path.open("rb") as file:
                found[path.name] = {ENTRY: json.loads(file.read(_LARGEST_FILE))}
        except (OSError, ValueError, RecursionError):
            # Removed or replaced at this moment, or damaged.
            continue
    return _statuses(found)


def write_status_file(path: Path, status: Status) -> None:
    """Replace the record in a file, as a whole; raises OSError."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(status.to_json(), file)
    new.replace(path)


def node_name(host: str, pid: int, number: int = 1) -> str:
    """Return the name of the node of a process, and of a further callback in it.

    Examples
    --------
    >>> node_name("ws1.xpd.example", 42), node_name("ws1", 42, 2)
    ('ws1.xpd.example-42', 'ws1-42-2')
    """
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", host)[:60] or "unnamed"
    return f"{safe}-{pid}" + ("" if number == 1 else f"-{number}")


class StatusNode:
    """The record of one process on a server; used by one thread.

    Each call of `write` is one request. Errors are PublishError, or what Tiled's client raises.

    Parameters
    ----------
    connect
        Returns a client of the root of the server; called when it is first needed, and after a failure.
    path
        Container of the predictions.
    name
        Of the node.
    """

    def __init__(self, connect: Callable[[], Any], path: str, name: str) -> None:
        self._connect = connect
        self._parents = status_path(path).split("/")
        self._path = [*self._parents, name]
        self._client: Any = None
        self._exists = False

    def write(self, status: Status) -> None:
        """Replace the record; the node, and what it is in, are made where they are missing."""
        record = status.public().to_json()
        with publish_errors("write the status", "/".join(self._path)):
            nodes = self._nodes()
            if not (self._exists and self._is_replaced(nodes, record)):
                self._create(nodes, record)
            self._exists = True

    def remove(self) -> None:
        """Remove the record, if this process has written one."""
        if self._exists:
            with publish_errors("remove the status", "/".join(self._path)):
                self._nodes().remove(self._path)
            self._exists = False

    def remove_dead(self, host: str) -> list[str]:
        """Remove the stale records of processes of this computer that have ended; return their names."""
        with publish_errors("read the status of watchers", "/".join(self._parents)):
            nodes = self._nodes()
            found = _statuses(nodes.metadata_of_all(self._parents))
            dead = [
                each.name
                for each in found
                # Stale, too: the processes of a container have the host name of others, not their numbers.
                if each.host == host and each.is_stale() and not is_alive(each.pid)
            ]
            for name in dead:
                nodes.remove([*self._parents, name])
        return dead

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.context.http_client.close()

    def _nodes(self) -> Nodes:
        if self._client is None:
            self._client = self._connect()
        return Nodes(self._client)

    def _is_replaced(self, nodes: Nodes, record: JsonObject) -> bool:
        """Replace the record of an existing node; return False if there is none any more."""
        import httpx

        try:
            nodes.patch_metadata(self._path, [{"op": "add", "path": f"/{ENTRY}", "value": record}])
        except httpx.HTTPStatusError as error:
            if status_of(error) == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def _create(self, nodes: Nodes, record: JsonObject) -> None:
        """Make the node; one that an earlier process of the same number left is taken over."""
        for depth in range(1, len(self._parents) + 1):
            _create_unless_there(nodes, self._parents[:depth], {}, [])
        if not _create_unless_there(nodes, self._path, {ENTRY: record}, [STATUS_SPEC]):
            self._is_replaced(nodes, record)


def is_alive(pid: int) -> bool:
    """Return whether a process of this computer runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0


def _create_unless_there(
    nodes: Nodes, path: list[str], metadata: JsonObject, specs: list[JsonObject]
) -> bool:
    """Make a container; return False if there was one."""
    import httpx

    try:
        nodes.create_container(path, metadata, specs)
    except httpx.HTTPStatusError as error:
        if status_of(error) != HTTPStatus.CONFLICT:
            raise
        return False
    return True


def _statuses(metadata_by_name: Mapping[str, Mapping[str, Any]]) -> list[Status]:
    """Return the records among nodes; the name is that of the node, whatever the record states."""
    records = {
        name: metadata[ENTRY]
        for name, metadata in sorted(metadata_by_name.items())
        if isinstance(metadata.get(ENTRY), Mapping)
    }
    return [
        replace(status, name=status.name if name.endswith(".json") else name)
        for name, status in zip(records, map(Status.from_json, records.values()), strict=True)
    ]


def _read(defaults: Record, known: Mapping[str, Any]) -> Record:
    """Return a record with those plain fields replaced that fit."""
    fitting: dict[str, object] = {}
    for each in fields(defaults):  # type: ignore[arg-type]
        default, value = getattr(defaults, each.name), known.get(each.name)
        if isinstance(default, bool):
            fitting[each.name] = value is True
        elif isinstance(default, str):
            fitting[each.name] = value[:LONGEST_TEXT] if isinstance(value, str) else default
        elif isinstance(default, int | float):
            number = _number(value, type(default))
            fitting[each.name] = default if number is None else number
        elif isinstance(default, tuple):
            fitting[each.name] = tuple(map(text, as_list(value)[:_MOST_COUNTS]))
    return replace(defaults, **fitting)  # type: ignore[type-var]


def _number(value: object, kind: type[int | float]) -> Any:
    """Return a finite number as one of a kind; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return kind(value)
