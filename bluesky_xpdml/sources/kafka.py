"""Documents from a topic of Kafka, read so that every run is answered once, by one of several consumers.

Consumers of one group share the partitions of the topic. The documents of a run are on one partition, as they
carry one key, so that the run stays with one consumer. An offset is committed when every run that began
before it is answered and the answer is in the outbox: what a consumer that dies has not answered comes again,
to it or to another one. Documents are msgpack, as bluesky-kafka writes them, or JSON; pickles are refused.
"""

import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.documents.run_index import RunIndex
from bluesky_xpdml.errors import DocumentError, SourceError, needs_extra
from bluesky_xpdml.files import open_regular
from bluesky_xpdml.sources.stream import Ledger, Receiver, note_refused, require_document
from bluesky_xpdml.sources.wire import decode_pair

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.2
"""Longest time until a stop is noticed [s]."""
BUSY_INTERVAL = 0.1
"""Between two looks whether the receiver is busy [s]."""
COMMIT_INTERVAL = 0.5
"""Between two commits [s]."""
ASK_INTERVAL = 5.0
"""Between two looks whether a broker is back, and for runs that do not go on [s]."""
TIMEOUT = 5.0
"""Longest time for an answer of a broker [s]."""
SESSION_TIMEOUT = 10_000
"""A consumer without a sign of life for so long is dead: others get its partitions [ms]."""
STALE = 86_400.0
"""A run without a document for so long will not go on [s]."""
REMEMBERED = 10_000
"""Answered runs that are skipped if their documents come again."""
LARGEST_FILE = 1 << 20
"""Larger configuration files are not read [bytes]."""
_SECURITY = ("producer_consumer_security_config", "runengine_producer_config")
_SECURE = ("security.", "sasl.", "ssl.", "enable.ssl.")


@dataclass(slots=True)
class _Run:
    """A run that is not answered."""

    partition: int
    is_whole: bool = False
    seen: float = field(default_factory=time.monotonic)


class _Partition:
    """What is known of a partition that this consumer reads."""

    def __init__(self, offset: int) -> None:
        self.ledger = Ledger(offset)
        self.index = RunIndex()
        self.skipped: set[str] = set()
        """Runs whose documents came before."""
        self.committed = -1


class KafkaSource:
    """Reads the documents of a topic, as a member of a group of consumers.

    Parameters
    ----------
    brokers
        Addresses, such as `broker-1:9092,broker-2:9092`.
    topic
        Where the RunEngine's documents are, such as `xpd.bluesky.runengine.documents`. Those of one run must
        carry one key: the uid of the run, or a constant, which leaves all of them to one consumer.
    group
        Name of the group of consumers that share the work.
    config
        Further settings of librdkafka, such as those for TLS and SASL.
    from_beginning
        Whether a group without commits begins with the oldest document; else with the next one that comes.

    Attributes
    ----------
    documents : int
        Documents passed on.
    refused : Counter
        Messages that were no documents, by reason.
    connected : bool
        Whether a broker answers.

    Raises
    ------
    MissingExtraError
        If confluent-kafka is not installed.
    SourceError
        If librdkafka does not take the settings.

    Examples
    --------
    >>> KafkaSource("localhost:9092", "docs", group="xpdml").address
    'kafka://localhost:9092/docs'
    """

    repeats = True

    def __init__(
        self,
        brokers: str,
        topic: str,
        *,
        group: str,
        config: Mapping[str, Any] | None = None,
        from_beginning: bool = False,
    ) -> None:
        self.address = f"kafka://{brokers}/{topic}"
        self.documents = 0
        self.refused: Counter[str] = Counter()
        self.connected = False
        self._topic = topic
        self._from_beginning = from_beginning
        self._partitions: dict[int, _Partition] = {}
        self._runs: dict[str, _Run] = {}
        self._places: OrderedDict[str, tuple[bytes | None, int]] = OrderedDict()
        """Key and partition of the first document of each run."""
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._settled: deque[str] = deque()
        self._n_partitions = 0
        self._receiver: Receiver | None = None
        self._is_paused = False
        self._faults: set[str] = set()
        self._commit_at = self._ask_at = 0.0
        self._consumer = self._opened(brokers, group, config or {})

    def run(self, receiver: Receiver, stop: Event) -> None:
        """Pass on every document, until `stop` is set.

        While the receiver is busy nothing is read; the partitions stay with this consumer.

        Parameters
        ----------
        receiver
            Called in this thread with each document.
        stop
            Set by another thread or a signal; noticed within 0.2 s.

        Raises
        ------
        SourceError
            If documents of one run carry different keys, or none in a topic of several partitions: they
            would be torn apart. Nothing of them is committed.
        """
        self._receiver = receiver
        self._consumer.subscribe(
            [self._topic], on_assign=self._get, on_revoke=self._give_back, on_lost=self._lose
        )
        look_at = 0.0
        while not stop.is_set():
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + BUSY_INTERVAL
                self._pause(receiver.is_busy)
            message = self._consumer.poll(POLL_INTERVAL)
            if message is not None:
                self._take(message, receiver)
            self._look_around()

    def settled(self, run: str) -> None:
        """Note that the answer to a run is safe."""
        self._settled.append(run)

    def close(self) -> None:
        """Commit what is answered, and leave the group."""
        self._commit(wait=True)
        self._receiver = None
        self._consumer.close()

    def _pause(self, is_busy: bool) -> None:
        """Pause or resume the reading of all partitions, if that changes."""
        if is_busy is not self._is_paused:
            change = self._consumer.pause if is_busy else self._consumer.resume
            change(self._consumer.assignment())
            self._is_paused = is_busy

    def _opened(self, brokers: str, group: str, config: Mapping[str, Any]) -> "Consumer":
        with needs_extra("kafka"):
            from confluent_kafka import Consumer, KafkaException
        try:
            return Consumer(
                {
                    "client.id": "xpdml",
                    "partition.assignment.strategy": "cooperative-sticky",
                    "session.timeout.ms": SESSION_TIMEOUT,
                    **config,
                    "bootstrap.servers": brokers,
                    "group.id": group,
                    # Each fault is said once, by its kind: librdkafka repeats them many times a second.
                    "log_level": 2,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    # What is missing is decided here: a new group is another thing than lost documents.
                    "auto.offset.reset": "error",
                    "error_cb": self._note_fault,
                },
                logger=logger,
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise SourceError(f"expected settings that librdkafka takes, found {error}") from error

    def _take(self, message: "Message", receiver: Receiver) -> None:
        """Pass on the document in a message, or do what else it asks for."""
        error, number, offset = message.error(), int(message.partition() or 0), int(message.offset() or 0)
        if error is not None and error.name() == "_AUTO_OFFSET_RESET":
            self._begin(number)
            return
        if error is not None and error.name() != "_PARTITION_EOF":
            self._note_fault(error)
            return
        self.connected = True
        self._faults.clear()
        known = self._partitions.get(number)
        if known is None:
            known = self._partitions[number] = _Partition(offset)
            # From now on it is known from where documents count, should this process die before an answer.
            self._commit()
        if error is None:
            self._read(message, known, receiver)
            known.ledger.place = offset + 1

    def _read(self, message: "Message", known: _Partition, receiver: Receiver) -> None:
        try:
            name, document = decode_pair(message.value() or b"")
            require_document(name, document)
        except DocumentError as error:
            if note_refused(self.refused, error):
                logger.info("refused: %s", error)
            return
        run = known.index.find(name, document)
        self._require_one_place(run, message)
        if self._is_wanted(name, run, message, known):
            self.documents += 1
            receiver(name, document)
        if name == "stop":
            known.index.forget(run)

    def _require_one_place(self, run: str, message: "Message") -> None:
        """Raise a SourceError if the documents of a run may lie on several partitions."""
        key, advice = _key(message), "let the producer use the uid of the run, or a constant, as the key"
        found = ""
        if key is None and self._count_partitions() > 1:
            found = f"expected documents with a key, found none in {self.address}"
        place = key, int(message.partition() or 0)
        # Also of runs whose start is elsewhere.
        if run and self._places.setdefault(run, place) != place:
            keys = f"{_shown(self._places[run][0])} and {_shown(key)}"
            found = f"expected one key for all documents of run {run[:60]!a}, found {keys} in {self.address}"
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)
        if found:
            # Nothing that was read is committed any more.
            self._partitions.clear()
            raise SourceError(f"{found}: runs are torn apart; {advice}, and read it as another --group")

    def _is_wanted(self, name: str, run: str, message: "Message", known: _Partition) -> bool:
        """Return whether a document is passed on; keep account of its run."""
        if name == "start":
            before = self._runs.get(run)
            if run in self._answered or (before is not None and before.is_whole):
                known.skipped.add(run)
            if before is None and run not in self._answered:
                self._runs[run] = _Run(int(message.partition() or 0))
            if run not in self._answered:
                known.ledger.hold(run)
        if run in known.skipped:
            known.skipped -= {run} if name == "stop" else set()
            return False
        if run in self._runs:
            self._runs[run].seen = time.monotonic()
            self._runs[run].is_whole |= name == "stop"
        return True

    def _begin(self, partition: int) -> None:
        """Begin with a partition of which nothing is committed, or no longer there."""
        from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaException, TopicPartition

        place = TopicPartition(self._topic, partition)
        try:
            (committed,) = self._consumer.committed([place], timeout=TIMEOUT)
            was_read = committed.offset >= 0
            if was_read:
                logger.warning(
                    "%s: the documents after number %d of partition %d were removed before they were read; "
                    "`xpdml catch-up` answers their runs from a catalog of raw runs",
                    self.address,
                    committed.offset,
                    partition,
                )
            place.offset = OFFSET_BEGINNING if was_read or self._from_beginning else OFFSET_END
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])
        except KafkaException as error:
            self._note_fault(error.args[0])

    def _look_around(self) -> None:
        """Commit, and see after what does not come by itself."""
        from confluent_kafka import KafkaException

        now = time.monotonic()
        if now >= self._commit_at:
            self._commit_at = now + COMMIT_INTERVAL
            self._commit()
        if now < self._ask_at:
            return
        self._ask_at = now + ASK_INTERVAL
        for run, known in list(self._runs.items()):
            if not known.is_whole and now - known.seen > STALE:
                logger.warning("run %.60a does not go on: it is no longer waited for", run)
                self._release(run)
        if self._partitions and not self.connected:
            try:
                self._consumer.list_topics(self._topic, timeout=1.0)
            except KafkaException:
                return
            self.connected = True

    def _commit(self, *, wait: bool = False) -> None:
        """Commit how far everything is answered."""
        from confluent_kafka import KafkaException, TopicPartition

        while self._settled:
            run = self._settled.popleft()
            self._release(run)
            self._answered[run] = None
            if len(self._answered) > REMEMBERED:
                self._answered.popitem(last=False)
        changed = {
            number: known.ledger.safe
            for number, known in self._partitions.items()
            if wait or known.ledger.safe != known.committed
        }
        if not changed:
            return
        offsets = [TopicPartition(self._topic, number, offset) for number, offset in changed.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as error:
            logger.info("%s: what is answered cannot be noted now: %s", self.address, error)
            return
        for number, offset in changed.items():
            self._partitions[number].committed = offset

    def _release(self, run: str) -> None:
        self._runs.pop(run, None)
        for known in self._partitions.values():
            known.ledger.release(run)

    def _get(self, _consumer: "Consumer", _partitions: "list[TopicPartition]") -> None:
        """Note that there are partitions which are not paused."""
        self._is_paused = False

    def _give_back(self, _consumer: "Consumer", partitions: "list[TopicPartition]") -> None:
        """Commit what is answered of partitions that another consumer gets, and forget their open runs."""
        self._commit(wait=True)
        self._lose(_consumer, partitions)

    def _lose(self, _consumer: "Consumer", partitions: "list[TopicPartition]") -> None:
        """Forget partitions that another consumer has."""
        lost = {each.partition for each in partitions}
        for number in lost:
            self._partitions.pop(number, None)
        for run, known in list(self._runs.items()):
            if known.partition in lost and not known.is_whole:
                del self._runs[run]
                if self._receiver is not None:
                    self._receiver.forget(run)

    def _note_fault(self, error: "KafkaError") -> None:
        """Say each reason once until a message comes again."""
        if error.name() in {"_ALL_BROKERS_DOWN", "_TRANSPORT"}:
            self.connected = False
        if error.name() not in self._faults:
            self._faults.add(error.name())
            logger.warning(
                "%s: %.300s; check the brokers, the topic, and user and password; it is tried again",
                self.address,
                ascii(error.str()),
            )

    def _count_partitions(self) -> int:
        """Return how many partitions the topic has, asked once."""
        from confluent_kafka import KafkaException

        if not self._n_partitions:
            try:
                topics = self._consumer.list_topics(self._topic, timeout=TIMEOUT).topics
                self._n_partitions = len(topics[self._topic].partitions)
            except (KafkaException, KeyError) as error:
                self._note_fault(error.args[0]) if isinstance(error, KafkaException) else None
        return self._n_partitions


def _key(message: "Message") -> bytes | None:
    key = message.key()
    return key.encode() if isinstance(key, str) else key


def _shown(key: bytes | None) -> str:
    return "none" if key is None else ascii(key[:60].decode("utf-8", "replace"))


def kafka_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the brokers and the settings for TLS and SASL in a configuration file of a facility.

    Parameters
    ----------
    path
        YAML as bluesky-kafka reads it, such as `/etc/bluesky/kafka.yml`: `bootstrap_servers`, a list or text;
        `producer_consumer_security_config` and `runengine_producer_config`, of which the latter only the keys
        for `security`, `sasl` and `ssl` count.

    Raises
    ------
    SourceError
        If it cannot be read, or names no brokers.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "kafka.yml"
    ...     _ = path.write_text("bootstrap_servers: [broker-1:9092, broker-2:9092]")
    ...     kafka_config(path)
    ('broker-1:9092,broker-2:9092', {})
    """
    with needs_extra("kafka"):
        import yaml
    try:
        with open_regular(path) as file:
            found = yaml.safe_load(file.read(LARGEST_FILE))
    except FileNotFoundError:
        raise SourceError(f"{path}: expected the file that names the brokers, found none") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        # Its content may be a password.
        raise SourceError(f"{path}: expected YAML that can be read, found {type(error).__name__}") from None
    entries = found if isinstance(found, dict) else {}
    servers = entries.get("bootstrap_servers")
    brokers = ",".join(map(str, servers)) if isinstance(servers, list) else str(servers or "")
    if not brokers:
        raise SourceError(f"{path}: expected bootstrap_servers, the addresses of the brokers, found none")
    config: dict[str, Any] = {}
    for name in _SECURITY:
        section = entries.get(name)
        config |= {
            str(key): value
            for key, value in (section.items() if isinstance(section, dict) else ())
            if str(key).startswith(_SECURE)
        }
    return brokers, config
