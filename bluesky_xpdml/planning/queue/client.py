"""Client for the queue of a Bluesky RE manager: its state, and adding and removing items.

Items are identified by their `meta`: the RE manager keeps it in the queue and in the history, and writes it
into the start document of every run of the plan.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from bluesky_xpdml.errors import PlanningError, needs_extra
from bluesky_xpdml.records import TRIAL

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this computer."""
_PUBLIC_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


class UnreachableError(PlanningError):
    """A server does not respond now; the request may be repeated later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """A plan in the queue or the history, or the running one."""

    uid: str
    """Of the item."""
    campaign: str
    """Of its trial; empty if a person added the item."""
    trial: str
    """Id of its trial; empty if a person added the item."""
    parameters: Mapping[str, Any]
    """Of its trial."""
    status: str = ""
    """How it ended: `completed`, `failed`, `stopped`, `aborted`, `halted`; empty if it did not."""
    reason: str = ""
    """Why it failed; empty if it did not."""
    began: float | None = None
    """When it was started [s since 1970]; None if it was not."""
    ended: float | None = None
    """When it ended [s since 1970]; None if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """The queue at one moment. An item that moves on may appear twice, but is never missing."""

    waiting: tuple[QueueItem, ...]
    """From the front."""
    running: QueueItem | None
    finished: tuple[QueueItem, ...]
    """The history, oldest first."""
    environment_open: bool
    """Whether there is a RunEngine to run plans."""
    works: bool
    """Whether the queue is executed, or will be as soon as it has items."""
    locked: bool = False
    """Whether a person locked it: nothing can be added or removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAccess:
    """Address of the RE manager, and the user who adds items.

    It raises a `PlanningError` if the address is neither `tcp://` nor `http(s)://`, or a connection to
    another computer would not be encrypted.
    """

    address: str
    """Of the RE manager (tcp), or of its HTTP server (http or https)."""
    public_key: str = ""
    """Of the RE manager, 40 characters, if its 0MQ connection is encrypted."""
    position: Literal["back", "front"] = "back"
    """Where items are added."""
    user: str = "xpdml"
    """As the queue shows it; over HTTP it is the owner of the key."""
    user_group: str = "primary"
    """Group whose permissions apply."""
    allow_remote: bool = False
    """Allow another computer without encryption."""
    timeout: float = 3.0
    """Longest response time of the RE manager [s]."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in {"tcp", "http", "https"} or not parts.hostname:
            raise PlanningError(
                f"expected an RE manager's address, such as tcp://localhost:60615, found {self.address!r}"
            )
        if parts.username or parts.query:
            raise PlanningError(
                "expected the address of an RE manager without a key in it: name its variable"
            )
        if self.public_key and not _PUBLIC_KEY.fullmatch(self.public_key):
            raise PlanningError(
                f"expected a public key of 40 characters, found {len(self.public_key)}: "
                "`qserver-zmq-keys` shows that of the RE manager"
            )
        encrypted = parts.scheme == "https" or (parts.scheme == "tcp" and self.public_key)
        if not (encrypted or self.allow_remote or parts.hostname in LOCAL):
            raise PlanningError(
                f"expected an RE manager on this computer or an encrypted connection, found {self.address}: "
                "give its public key, use https or a tunnel to localhost, or allow it by allow_remote"
            )
        if self.position not in {"back", "front"}:
            raise PlanningError(f"expected back or front as the position of items, found {self.position!r}")

    @property
    def over_http(self) -> bool:
        """Whether the connection goes through the HTTP server."""
        return not self.address.startswith("tcp")


class RunQueue:
    """The queue of an RE manager, by bluesky-queueserver-api; a `PlanningError` if it is not installed.

    The key is that of the HTTP server; None if it needs none.
    """

    def __init__(self, access: QueueAccess, *, api_key: str | None = None) -> None:
        self.access = access
        self._api = _connect(access, api_key)

    def state(self) -> QueueState:
        """Return the queue, the running item and the history; an `UnreachableError` without response."""
        # In this order: items move from the queue to the history, and none must be missed on its way.
        queue = self._call("queue_get", reload=True)
        history = self._call("history_get", reload=True)
        status = self._call("status", reload=True)
        running = queue["running_item"]
        works = status["manager_state"] not in {"idle", "paused"} or status["queue_autostart_enabled"]
        return QueueState(
            waiting=tuple(_item(each) for each in queue["items"]),
            running=_item(running) if running else None,
            finished=tuple(_item(each) for each in history["items"]),
            environment_open=bool(status["worker_environment_exists"]),
            works=bool(works) and not status["queue_stop_pending"],
            locked=bool(status["lock"]["queue"]),
        )

    def check_plan(self, plan: str) -> None:
        """Raise a `PlanningError` unless the RE manager has an open environment and allows a plan."""
        if not self._call("status", reload=True)["worker_environment_exists"]:
            raise PlanningError(
                f"expected an open environment at {self.access.address}, found none: "
                "open it, with `qserver environment open`"
            )
        allowed = self._call("plans_allowed", reload=True, **self._group())["plans_allowed"]
        if plan not in allowed:
            raise PlanningError(
                f"expected a plan that the RE manager allows to {self.access.user_group}, found {plan!r}: "
                f"allowed are {', '.join(sorted(allowed)) or 'none'}"
            )

    def add(self, item: Mapping[str, Any]) -> None:
        """Add a plan: `name`, `args`, `kwargs` and `meta`; a `PlanningError` if the RE manager refuses it.

        If it does not respond, an `UnreachableError`; the item may have been added nevertheless.
        """
        with needs_extra("plan"):
            from bluesky_queueserver_api import BPlan

        plan = BPlan(item["name"], *item["args"], **item["kwargs"])
        plan.meta = dict(item["meta"])
        user = {} if self.access.over_http else {"user": self.access.user}
        self._call("item_add", plan, pos=self.access.position, **user, **self._group())

    def remove(self, uid: str) -> bool:
        """Remove a waiting item by its uid, and return whether it was still waiting."""
        try:
            self._call("item_remove", uid=uid)
        except UnreachableError:
            raise
        except PlanningError:
            # It was started, or a person removed it.
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._api.close()
        _end_contexts(self._api)

    def _group(self) -> dict[str, str]:
        return {} if self.access.over_http else {"user_group": self.access.user_group}

    def _call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        import httpx

        api = self._api
        try:
            return getattr(api, method)(*arguments, **keywords)
        except (api.HTTPClientError, api.RequestFailedError) as error:
            raise PlanningError(
                f"expected the RE manager at {self.access.address} to accept {method}, found: {error}; "
                "see its console for more, and correct the plan or the permissions"
            ) from error
        except (TimeoutError, httpx.HTTPError, OSError) as error:
            raise UnreachableError(
                f"expected an RE manager at {self.access.address}, found no answer within "
                f"{self.access.timeout:g} s; check the address, and that it runs"
            ) from error


def _connect(access: QueueAccess, api_key: str | None) -> Any:
    with needs_extra("plan"):
        from bluesky_queueserver_api import http, zmq
    if access.over_http:
        api: Any = http.REManagerAPI(http_server_uri=access.address, timeout=access.timeout)
        if api_key is not None:
            api.set_authorization_key(api_key=api_key)
        return api
    return zmq.REManagerAPI(
        zmq_control_addr=access.address,
        zmq_public_key=access.public_key or None,
        timeout_recv=access.timeout,
    )


def _end_contexts(api: Any) -> None:
    """End the 0MQ contexts that bluesky-queueserver-api 0.0.13 leaves open, if there are any."""
    contexts = [getattr(getattr(api, "_client", None), "_ctx", None)]
    for monitor in (api.console_monitor, api.system_info_monitor):
        socket = getattr(getattr(monitor, "_rco", None), "_socket", None)
        contexts.append(getattr(socket, "context", None))
    for context in contexts:
        if context is not None:
            context.destroy(linger=0)


def _item(item: Mapping[str, Any]) -> QueueItem:
    meta = item.get("meta")
    metadata = meta.get(TRIAL) if isinstance(meta, Mapping) else None
    trial = metadata if isinstance(metadata, Mapping) else {}
    result, properties = item.get("result", {}), item.get("properties", {})
    return QueueItem(
        uid=item["item_uid"],
        campaign=str(trial.get("campaign", "")),
        trial=str(trial.get("id", "")),
        parameters=dict(trial.get("parameters", {})),
        status=result.get("exit_status", ""),
        reason=result.get("msg", ""),
        began=result.get("time_start", properties.get("time_start")),
        ended=result.get("time_stop"),
    )
