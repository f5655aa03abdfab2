"""Trials of Kafka: consumers that come, go and are killed, a broker that is away, topics that are none.

The broker is librdkafka's mock cluster, in a process of its own: the real protocol, without storage. It keeps
about 5 MB of a partition, so that documents are sent no further than the group has committed.
"""

import logging
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.factory.bench.fault_place import ANSWERING, Place, Row
from bluesky_xpdml.factory.bench.fault_process import Program
from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.factory.bench.fault_watch import Watcher, settle
from bluesky_xpdml.sources.wire import encode_pair

logger = logging.getLogger(__name__)

MOST_WAITING = 3_000_000
"""Documents of a partition that are not committed, at most [bytes]."""
AWAY = 20.0
"""How long the broker does not answer [s]."""
LIFETIME = (4.0, 10.0)
"""Shortest and longest time until a consumer is killed again [s]."""
_TIMEOUT = 10.0


class Cluster:
    """A broker in a process of its own, and a producer of documents for one topic and group.

    Parameters
    ----------
    folder
        For its log.
    topic, group
        Of the documents, and of those who read them.
    """

    def __init__(self, folder: Path, topic: str, group: str) -> None:
        from confluent_kafka import Consumer, Producer

        self._program = Program(["-m", __name__], folder / f"{topic}-broker.log")
        self.address = str(self._program.wait_for_key("ready"))
        self.topic, self.group = topic, group
        self.options = ("--kafka", self.address, "--topic", topic, "--group", group, "--from-beginning")
        known = {"bootstrap.servers": self.address}
        self._producer = Producer(known, logger=logger)
        self._group = Consumer({**known, "group.id": group}, logger=logger)
        topics = self._producer.list_topics(topic, timeout=_TIMEOUT).topics
        self.partitions = len(topics[topic].partitions)
        self._waiting: dict[int, deque[tuple[int, int]]] = {n: deque() for n in range(self.partitions)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._group.close()
        self._program.end(signal.SIGKILL)

    def send(self, uid: str, *, key: str | None = "", partition: int | None = None) -> None:
        """Send the documents of a run, keyed by its uid if no other key is given, when there is room."""
        for number, (name, document) in enumerate(run_documents(uid, time.time())):
            place = {} if partition is None else {"partition": (partition + number) % self.partitions}
            self.send_message(encode_pair(name, document), key=uid if key == "" else key, **place)
        self._flush()

    def send_message(self, content: bytes, *, key: str | None, **place: int) -> None:
        """Send any content."""
        self._producer.produce(self.topic, content, key=key, on_delivery=self._note, **place)
        self._producer.poll(0)

    def committed(self) -> dict[int, int]:
        """Return how far the group has committed each partition."""
        from confluent_kafka import KafkaException, TopicPartition

        places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        try:
            found = self._group.committed(places, timeout=_TIMEOUT)
        except KafkaException:
            # The broker is away.
            return {}
        return {each.partition: max(each.offset, 0) for each in found}

    def is_settled(self) -> bool:
        """Return whether everything that was sent is committed."""
        self._forget()
        return not any(self._waiting.values())

    def pause(self, seconds: float) -> None:
        """Let the broker answer nothing for some time [s]."""
        self._program.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._program.signal(signal.SIGCONT)

    def _note(self, error: Any, message: Any) -> None:
        if error is not None:
            raise XpdmlError(f"expected the broker to take a document, found {error}")
        self._waiting[message.partition()].append((message.offset(), len(message.value() or b"")))

    def _flush(self) -> None:
        self._producer.flush()
        while max(sum(size for _, size in each) for each in self._waiting.values()) > MOST_WAITING:
            time.sleep(0.2)
            self._forget()

    def _forget(self) -> None:
        """Forget what the group has committed."""
        for number, offset in self.committed().items():
            while self._waiting[number] and self._waiting[number][0][0] < offset:
                self._waiting[number].popleft()


def wait_settled(cluster: Cluster) -> None:
    """Wait until the group has committed everything."""
    end = time.monotonic() + ANSWERING
    while not cluster.is_settled():
        if time.monotonic() > end:
            raise XpdmlError(f"expected everything to be committed, found {cluster.committed()}")
        time.sleep(0.5)


def kafka_rebalanced(place: Place, runs: int) -> list[Row]:
    """Let a second consumer come in the midst of the runs, and the first one go and come back."""
    plan = place.plan("kafka-rebalanced", runs)
    with Cluster(place.folder, plan.path, "xpdml") as cluster, ExitStack() as open_:
        sending = _sent_meanwhile(cluster, plan.uids)
        first = open_.enter_context(_watcher(place, cluster, "first"))
        _wait_answered(place, plan.path, runs // 4)
        second = open_.enter_context(_watcher(place, cluster, "second"))
        _wait_answered(place, plan.path, runs // 2)
        first.end(signal.SIGTERM)
        # What waits in its outbox is sent at its next start, as its unit does.
        back = open_.enter_context(_watcher(place, cluster, "first"))
        sending.join(ANSWERING)
        settle(place, plan.path, plan.uids)
        wait_settled(cluster)
        for each in (second, back):
            each.end(signal.SIGTERM)
    watchers = [first, second, back]
    return [place.row("Kafka: a second consumer comes, the first one goes and comes back", plan, watchers)]


def kafka_consumer_killed(place: Place, runs: int, *, kills: int = 5) -> list[Row]:
    """Kill one of two consumers at random, between answers and commits; it is started again."""
    chance = random.Random(2)  # noqa: S311 - not secret
    plan = place.plan("kafka-killed", runs)
    watchers: list[Watcher] = []
    with Cluster(place.folder, plan.path, "xpdml") as cluster, ExitStack() as open_:
        sending = _sent_meanwhile(cluster, plan.uids)
        watchers += [open_.enter_context(_watcher(place, cluster, name)) for name in ("stays", "killed")]
        for _ in range(kills):
            time.sleep(chance.uniform(*LIFETIME))
            watchers[-1].end(signal.SIGKILL)
            watchers.append(open_.enter_context(_watcher(place, cluster, "killed")))
        sending.join(ANSWERING)
        settle(place, plan.path, plan.uids)
        wait_settled(cluster)
        for each in (watchers[0], watchers[-1]):
            each.end(signal.SIGTERM)
    return [place.row(f"Kafka: one of two consumers killed {kills} times", plan, watchers)]


def kafka_broker_away(place: Place, runs: int, *, away: float = AWAY) -> list[Row]:
    """Let the broker answer nothing for a while, in the midst of the runs."""
    plan = place.plan("kafka-away", runs)
    with Cluster(place.folder, plan.path, "xpdml") as cluster, _watcher(place, cluster, "away") as watcher:
        sending = _sent_meanwhile(cluster, plan.uids)
        _wait_answered(place, plan.path, runs // 3)
        cluster.pause(away)
        sending.join(ANSWERING)
        settle(place, plan.path, plan.uids)
        wait_settled(cluster)
        watcher.end(signal.SIGTERM)
    return [place.row(f"Kafka: the broker is away for {away:g} s", plan, [watcher])]


def kafka_foreign(place: Place, runs: int) -> list[Row]:
    """Send messages that are no Bluesky documents between the runs."""
    plan = place.plan("kafka-foreign", runs)
    strange = [
        b"",
        b"\x00\xff",
        b'{"uid": "a"}',
        b'["start", []]',
        b"cos\nsystem\n(S'true'\ntR.",
        b"[" * 9000,
    ]
    with Cluster(place.folder, plan.path, "xpdml") as cluster, _watcher(place, cluster, "foreign") as watcher:
        for number, uid in enumerate(plan.uids):
            cluster.send_message(strange[number % len(strange)], key="foreign")
            cluster.send(uid)
        settle(place, plan.path, plan.uids)
        wait_settled(cluster)
        watcher.end(signal.SIGTERM)
    return [place.row("Kafka: messages that are no documents", plan, [watcher])]


def _watcher(place: Place, cluster: Cluster, name: str) -> Watcher:
    """Start a watcher as on a computer of its own."""
    return Watcher(place, cluster.options, cluster.topic, patience=5.0, folder=f"{cluster.topic}-{name}")


def _sent_meanwhile(cluster: Cluster, uids: Sequence[str]) -> threading.Thread:
    """Send runs in a thread."""

    def send() -> None:
        for uid in uids:
            cluster.send(uid)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def _wait_answered(place: Place, path: str, runs: int) -> None:
    """Wait until so many runs are answered."""
    end = time.monotonic() + ANSWERING
    while place.server.answers(path).questions.total() < runs and time.monotonic() < end:
        time.sleep(0.2)


def _serve() -> None:
    """Run the mock cluster until this process is killed."""
    from confluent_kafka import Producer

    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    brokers = cluster.list_topics(timeout=_TIMEOUT).brokers.values()
    sys.stdout.write(f'{{"ready": "{",".join(f"{each.host}:{each.port}" for each in brokers)}"}}\n')
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    _serve()
