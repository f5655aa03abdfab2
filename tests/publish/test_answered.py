"""Which raw runs have an answer: what is not whole, or was said of a run that did not come whole, is none."""

from bluesky_xpdml.publish import open_existing
from bluesky_xpdml.publish.answered import answered_runs
from bluesky_xpdml.records import Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode


def test_only_whole_answers_count(tiled_server, container, put, answer):
    cut = Quality().failed(Reason("no stop document", ReasonCode.NO_STOP))
    put(container, answer("whole"), 1.0)
    put(container, answer("half"), 2.0, complete=False)
    put(container, answer("cut", quality=cut), 3.0)
    path = "/".join(container.path_parts)

    def connect():
        return open_existing(tiled_server.uri, path=path)

    assert answered_runs(connect, ["whole", "half", "cut", "none"]) == {"whole"}
    assert answered_runs(lambda: open_existing(tiled_server.uri, path="nowhere"), ["whole"]) == set()
