"""The status of a watcher or callback as metrics that Prometheus scrapes.

Every scrape reads one `Status`. Nothing of single runs is in the metrics: neither samples nor uids. The
values of each label come from a fixed set, so that the number of time series is bounded.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluesky_xpdml.errors import SettingsError, attempt, needs_extra
from bluesky_xpdml.publish.status import Status
from bluesky_xpdml.vocabulary import ReasonCode

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

logger = logging.getLogger(__name__)

Values = float | Mapping[str, float] | None
"""One value, or one for each value of the label; None if there is none now."""
OTHER = "other"
"""Label of failures whose code is not one of `ReasonCode`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is read from a status, and how it is named."""

    name: str
    """Counters end in `_total`; all others are gauges."""
    text: str
    """What it means, with its unit."""
    read: Callable[[Status], Values]
    label: str = ""
    labels: str = ""
    """Values of the label, for people."""

    @property
    def is_counter(self) -> bool:
        """Return whether it only grows while a process lives."""
        return self.name.endswith("_total")


def _outcomes(status: Status) -> Values:
    return {name: getattr(status, name) for name in ("predicted", "failed", "ignored", "unpublished")}


def _failures(status: Status) -> Values:
    known = {str(code) for code in ReasonCode}
    counts: dict[str, float] = {}
    for code, count in status.failures.items():
        label = str(code) if str(code) in known else OTHER
        counts[label] = counts.get(label, 0.0) + count
    return counts


def _gaps(status: Status) -> Values:
    gaps = status.gaps
    return {"event": gaps.events, "start": gaps.unstarted, "refused": gaps.refused}


def _memory(status: Status) -> Values:
    found = {"watcher": status.memory, "analysis": status.memory_of_analysis}
    return {process: size for process, size in found.items() if size}


METRICS = (
    Metric(
        name="xpdml_info",
        text="Always 1; the version of the package.",
        read=lambda status: {status.version: 1.0},
        label="version",
        labels="of the package",
    ),
    Metric(
        name="xpdml_start_timestamp_seconds",
        text="When the process began to listen [s since 1970].",
        read=lambda status: status.started,
    ),
    Metric(
        name="xpdml_documents_total",
        text="Documents that came in.",
        read=lambda status: status.documents,
    ),
    Metric(
        name="xpdml_runs_total",
        text="Runs that ended, by what was published.",
        read=_outcomes,
        label="outcome",
        labels="predicted, failed, ignored, unpublished",
    ),
    Metric(
        name="xpdml_failures_total",
        text="Failed derived runs, by each reason that they state.",
        read=_failures,
        label="code",
        labels="a reason code, or other",
    ),
    Metric(
        name="xpdml_gaps_total",
        text="What did not arrive: events, start documents, and messages that were no documents.",
        read=_gaps,
        label="kind",
        labels="event, start, refused",
    ),
    Metric(
        name="xpdml_open_runs",
        text="Runs that have begun and not ended.",
        read=lambda status: status.open_runs,
    ),
    Metric(
        name="xpdml_backlog_runs",
        text="Runs that ended and are not answered; absent without a journal.",
        read=lambda status: status.backlog,
    ),
    Metric(
        name="xpdml_lag_seconds",
        text="Time since the oldest run of the backlog ended [s]; absent without a journal.",
        read=lambda status: status.lag,
    ),
    Metric(
        name="xpdml_outbox_entries",
        text="Derived runs, and parts of live ones, that the server does not have.",
        read=lambda status: status.outbox.entries,
    ),
    Metric(
        name="xpdml_outbox_bytes",
        text="Size of the outbox on disk [bytes].",
        read=lambda status: status.outbox.bytes,
    ),
    Metric(
        name="xpdml_server_away",
        text="1 if the outbox waits for a server that could not be reached, else 0.",
        read=lambda status: float(status.outbox.server_is_away),
    ),
    Metric(
        name="xpdml_last_answer_timestamp_seconds",
        text="When the last derived run was answered [s since 1970]; absent before the first.",
        read=lambda status: None if status.last_answer is None else status.last_answer.time,
    ),
    Metric(
        name="xpdml_memory_bytes",
        text="Resident memory [bytes]; absent where the system does not state it.",
        read=_memory,
        label="process",
        labels="watcher, analysis",
    ),
)
"""All metrics, in the order of the reference."""


class StatusCollector:
    """Reads the status at each scrape."""

    def __init__(self, status: Callable[[], Status | None]) -> None:
        self._status = status

    def collect(self) -> "Iterator[Family]":
        """Yield all metrics of one status; none if there is no status yet or it cannot be read."""
        status = attempt(self._status)
        if isinstance(status, Exception):
            logger.debug("the metrics cannot be collected", exc_info=status)
        elif status is not None:
            yield from (_family(metric, metric.read(status)) for metric in METRICS)


def _family(metric: Metric, values: Values) -> "Family":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = [metric.label] if metric.label else []
    kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=labels)
    if isinstance(values, Mapping):
        for label, value in values.items():
            family.add_metric([label], value)
    elif values is not None:
        family.add_metric([], values)
    return family


@contextmanager
def serving_metrics(
    status: Callable[[], Status | None], port: int | None, host: str = "127.0.0.1"
) -> Iterator[int | None]:
    """Serve the metrics of a process at `http://HOST:PORT/metrics`, as long as the context is open.

    Parameters
    ----------
    status
        Returns the status as it is now, such as `lambda: callback.status`; called by another thread at each
        scrape. While it returns None, no metrics are served.
    port
        Port of this computer; 0 for any free one. If None, nothing is served.
    host
        Address of this computer that is listened at. There is no password: everybody who reaches another
        address than the default can read the metrics.

    Yields
    ------
    int or None
        The port.

    Raises
    ------
    MissingExtraError
        If the extra `metrics` is not installed.
    SettingsError
        If the port is in use, or not allowed.

    Examples
    --------
    >>> import httpx
    >>> with serving_metrics(lambda: Status(documents=7), 0) as port:
    ...     text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    >>> "xpdml_documents_total 7.0" in text
    True
    """
    if port is None:
        yield None
        return
    with needs_extra("metrics"):
        from prometheus_client import CollectorRegistry, start_http_server
    # A registry of its own holds no metrics of the process itself, and of no other callback.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(
            f"expected to serve metrics at {host}:{port}, found: {error.strerror or error}; choose another "
            "port"
        ) from error
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
