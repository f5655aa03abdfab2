"""The queue of a Bluesky RE manager: what waits, runs and ended in it, and what is added or taken away.

Items are known again by what their `meta` says: the RE manager keeps it in the queue and in the history, and
puts it into the start document of every run of the plan.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.records import TRIAL

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are this computer."""


_PUBLIC_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


class AwayError(PlanningError):
    """A server does not answer now; what was asked of it may be asked again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """A plan of the queue, of the history, or the one that runs."""

    uid: str
    """Of the item."""
    campaign: str
    """That asked for it; empty where it is someone else's."""
    trial: str
    """Its id; empty where it is someone else's."""
    parameters: Mapping[str, Any]
    """What the trial asked for."""
    status: str = ""
    """How it ended: `completed`, `failed`, `stopped`, `aborted`, `halted`; empty where it did not."""
    reason: str = ""
    """Why it failed; empty where it did not."""
    began: float | None = None
    """When it was started [s since 1970]; None where it was not."""
    ended: float | None = None
    """When it ended [s since 1970]; None where it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """What is in the queue at one moment; an item that moves on may be seen twice, but never not at all."""

    waiting: tuple[QueueItem, ...]
    """From the front on."""
    running: QueueItem | None
    finished: tuple[QueueItem, ...]
    """The history, oldest first."""
    environment_open: bool
    """Whether there is a RunEngine to run plans."""
    works: bool
    """Whether the queue is being worked off, or will be once something is in it."""
    locked: bool = False
    """Whether a person locked it: nothing can be added or taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAccess:
    """Where the RE manager is and who is asking.

    Raises
    ------
    PlanningError
        If the address is neither `tcp://` nor `http(s)://`, or a connection to another computer would go
        over the wire in the open.

    Examples
    --------
    >>> QueueAccess(address="tcp://localhost:60615").over_http
    False
    """

    address: str
    """Of the RE manager, which begins with tcp, or of its HTTP server, which begins with http or https."""
    public_key: str = ""
    """Of the RE manager, 40 characters, where its 0MQ connection is encrypted."""
    position: Literal["back", "front"] = "back"
    """Where items are added."""
    user: str = "xpdml"
    """As the queue shows it; over HTTP it is the owner of the key."""
    user_group: str = "primary"
    """Whose permissions count."""
    allow_remote: bool = False
    """Allow another computer without encryption."""
    timeout: float = 3.0
    """How long the RE manager may take to answer [s]."""

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
        """Whether the HTTP server is asked."""
        return not self.address.startswith("tcp")


class RunQueue:
    """Asks an RE manager through bluesky-queueserver-api.

    Parameters
    ----------
    access
        Where it is and who is asking.
    api_key
        Of the HTTP server; None where it needs none.

    Raises
    ------
    PlanningError
        If bluesky-queueserver-api is not installed.
    """

    def __init__(self, access: QueueAccess, *, api_key: str | None = None) -> None:
        self.access = access
        self._api = _connect(access, api_key)

    def look(self) -> QueueState:
        """Return what is in the queue.

        Raises
        ------
        AwayError
            If the RE manager does not answer.
        PlanningError
            If it refuses.
        """
        # In this order: plans go from the queue to the history, and one that is missed would be lost.
        queue = self._ask("queue_get", reload=True)
        history = self._ask("history_get", reload=True)
        status = self._ask("status", reload=True)
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

    def check(self, plan: str) -> None:
        """Make sure that plans of a name can be run.

        Parameters
        ----------
        plan
            Its name.

        Raises
        ------
        PlanningError
            If there is no RE manager, its environment is not open, or it does not allow the plan.
        """
        if not self._ask("status", reload=True)["worker_environment_exists"]:
            raise PlanningError(
                f"expected an open environment at {self.access.address}, found none: "
                "open it, with `qserver environment open`"
            )
        allowed = self._ask("plans_allowed", reload=True, **self._group())["plans_allowed"]
        if plan not in allowed:
            raise PlanningError(
                f"expected a plan that the RE manager allows to {self.access.user_group}, found {plan!r}: "
                f"allowed are {', '.join(sorted(allowed)) or 'none'}"
            )

    def add(self, item: Mapping[str, Any]) -> None:
        """Add a plan.

        Parameters
        ----------
        item
            `name`, `args`, `kwargs` and `meta`.

        Raises
        ------
        AwayError
            If the RE manager does not answer; the item may have been added all the same.
        PlanningError
            If it refuses the plan.
        """
        from bluesky_queueserver_api import BPlan

        plan = BPlan(item["name"], *item["args"], **item["kwargs"])
        plan.meta = dict(item["meta"])
        user = {} if self.access.over_http else {"user": self.access.user}
        self._ask("item_add", plan, pos=self.access.position, **user, **self._group())

    def remove(self, uid: str) -> bool:
        """Take an item away that waits, and return whether that was still possible.

        Parameters
        ----------
        uid
            Of the item.

        Raises
        ------
        AwayError
            If the RE manager does not answer.
        """
        try:
            self._ask("item_remove", uid=uid)
        except AwayError:
            raise
        except PlanningError:
            # It was started, or a person was quicker.
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._api.close()
        _end_contexts(self._api)

    def _group(self) -> dict[str, str]:
        return {} if self.access.over_http else {"user_group": self.access.user_group}

    def _ask(self, method: str, *arguments: Any, **keywords: Any) -> Any:
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
            raise AwayError(
                f"expected an RE manager at {self.access.address}, found no answer within "
                f"{self.access.timeout:g} s; check the address, and that it runs"
            ) from error


def _connect(access: QueueAccess, api_key: str | None) -> Any:
    try:
        from bluesky_queueserver_api import http, zmq
    except ImportError as error:
        raise PlanningError(
            "expected bluesky-queueserver-api, found none: pip install 'bluesky-xpdml[queueserver]'"
        ) from error
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
    """End the 0MQ contexts that bluesky-queueserver-api 0.0.13 leaves open, where there are any."""
    found = [getattr(getattr(api, "_client", None), "_ctx", None)]
    for monitor in (api.console_monitor, api.system_info_monitor):
        socket = getattr(getattr(monitor, "_rco", None), "_socket", None)
        found.append(getattr(socket, "context", None))
    for context in found:
        if context is not None:
            context.destroy(linger=0)


def _item(item: Mapping[str, Any]) -> QueueItem:
    meta = item.get("meta")
    said = meta.get(TRIAL) if isinstance(meta, Mapping) else None
    trial = said if isinstance(said, Mapping) else {}
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
