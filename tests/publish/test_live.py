"""Partial predictions of a running measurement, row by row, also when the server misses some."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bluesky_xpdml.callbacks.live import LiveUpdates
from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.publish import LIVE_PURPOSE, LiveRun, Outbox, Sender, TiledPublisher, derived_run
from bluesky_xpdml.publish.sender import Outcome


class Unreliable:
    """A publisher that refuses the calls of given numbers."""

    def __init__(self, publisher, refused):
        self._publisher, self._refused, self._n_calls = publisher, refused, 0

    def publish(self, documents):
        self._publisher.publish(documents)

    def extend(self, documents):
        self._n_calls += 1
        if self._n_calls in self._refused:
            raise PublishError("the server is away")
        self._publisher.extend(documents)

    def close(self):
        self._publisher.close()


class Rows:
    """An analysis that gives prepared predictions, one more per update."""

    def __init__(self, rows):
        self._rows = rows

    def update(self, _run):
        return next(self._rows)

    def live_interval(self, _run):
        return 0.0


@pytest.mark.parametrize("refused", [{1}, {1, 2}])
def test_a_live_run_starts_with_the_first_row_that_can_be_written(container, answer, refused):
    publisher = Unreliable(TiledPublisher(container), refused)
    rows = iter([(answer("raw", state),) for state in (1.0, 2.0, 3.0, 4.0)])
    updates = LiveUpdates(Rows(rows), publisher)
    for number in range(1, 5):
        if number in refused:
            with pytest.raises(PublishError):
                updates.update("raw", object())
        else:
            updates.update("raw", object())
    updates.finish("raw")
    (run,) = container.values()
    assert run.metadata["start"]["purpose"] == LIVE_PURPOSE
    assert "stop" in run.metadata
    states = run["updates"].read()["oxidation_state"].values.tolist()
    assert states == [1.0, 2.0, 3.0, 4.0][len(refused) :]


def test_a_row_that_is_lost_in_the_middle_does_not_end_the_run(container, answer):
    publisher = Unreliable(TiledPublisher(container), {2})
    rows = iter([(answer("raw", state),) for state in (1.0, 2.0, 3.0)])
    updates = LiveUpdates(Rows(rows), publisher)
    updates.update("raw", object())
    with pytest.raises(PublishError):
        updates.update("raw", object())
    updates.update("raw", object())
    updates.finish("raw")
    (run,) = container.values()
    assert run["updates"].read()["oxidation_state"].values.tolist() == [1.0, 3.0]
    assert run.metadata["stop"]["exit_status"] == "success"


def test_a_live_run_is_continued_by_another_process(container, answer):
    """The first one wrote the start document and went away; the next ones have other connections."""
    live = LiveRun()
    start, descriptor, event = live.update(answer("raw", 1.0))
    container.create_container(key=live.uid, metadata={"start": start[1]})
    TiledPublisher(container).extend([start, descriptor, event])
    TiledPublisher(container).extend(live.update(answer("raw", 2.0)))
    TiledPublisher(container).extend([*live.update(answer("raw", 3.0)), *live.finish()])
    (run,) = container.values()
    assert run["updates"].read()["oxidation_state"].values.tolist() == [1.0, 2.0, 3.0]
    assert run.metadata["stop"]["num_events"] == {"updates": 3}


def test_a_row_of_a_run_that_is_gone_is_refused(container, answer):
    live = LiveRun()
    live.update(answer("raw", 1.0))
    with pytest.raises(PublishError, match="status 404") as refusal:
        TiledPublisher(container).extend(live.update(answer("raw", 2.0)))
    assert not isinstance(refusal.value, ServerAwayError)


def test_rows_that_a_slow_server_has_not_taken_reach_it_together(tmp_path: Path, answer, container):
    live = LiveRun()
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        outbox.add(live.update(answer("raw", 0.0)), live=True)
        claimed = outbox.claim()
        for number in range(1, 150):
            outbox.add(live.update(answer("raw", number)), live=True)
        outbox.add(live.finish(), live=True)
        outbox.add(derived_run(answer("raw", 150.0)))
        parts = [(entry.rows, entry.ends, entry.live) for entry in outbox.entries()]
        assert parts == [
            (1, False, True),
            (100, False, True),
            (49, False, True),
            (0, True, True),
            (0, False, False),
        ]
        outbox.release(claimed)
        sender = Sender(lambda: TiledPublisher(container), outbox)
        assert [sender.step() for _ in parts] == [Outcome.SENT] * len(parts)
    updates = container[live.uid]
    assert updates["updates"].read()["oxidation_state"].values.tolist() == list(range(150))
    assert updates.metadata["stop"]["num_events"] == {"updates": 150}
    assert len(container) == 2


def test_live_runs_of_two_processes_are_written_at_once(tiled_server, container, answer):
    """Tiled's tables in DuckDB, which take single rows, crash the server here."""
    path = "/".join(container.path_parts)
    lives = [LiveRun(), LiveRun()]

    def write(live):
        publisher = TiledPublisher.from_uri(tiled_server.uri, path=path)
        with closing(publisher):
            for number in range(25):
                publisher.extend(live.update(answer("raw", number)))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, lives))
    for live in lives:
        assert container[live.uid]["updates"].read()["oxidation_state"].values.tolist() == list(range(25))


def test_rows_that_are_written_again_replace_themselves(container, answer):
    """The server wrote them, and its answer was lost."""
    live, publisher = LiveRun(), TiledPublisher(container)
    first, second, third = (live.update(answer("raw", number)) for number in (1.0, 2.0, 3.0))
    for part in (first, first, second, [*second, *third], third):
        publisher.extend(part)
    assert container[live.uid]["updates"].read()["oxidation_state"].values.tolist() == [1.0, 2.0, 3.0]
