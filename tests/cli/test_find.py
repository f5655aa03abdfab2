"""`xpdml find` on a real server."""

import pytest

from bluesky_xpdml.publish import TiledPublisher, derived_run
from bluesky_xpdml.records import Estimate, Prediction, Quality, Sample


@pytest.fixture(scope="module")
def server(tiled_server):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="found")
    for number, state in enumerate((2.0, 3.0)):
        answer = Prediction(
            technique="xanes",
            element="Fe",
            edge="K",
            quality=Quality(),
            descriptors={"oxidation_state": Estimate(value=state, low=state, high=state, unit="e")},
            sample=Sample(name=f"sample-{number}"),
            raw_uids=(f"raw-{number}",),
        )
        publisher.publish(derived_run(answer, clock=lambda at=number: 1e9 + at))
    publisher.close()
    return "--tiled", tiled_server.uri, "--path", "found"


def test_what_is_found_is_one_object_a_line(xpdml, server):
    done = xpdml("find", *server, "--json")
    assert [start["raw_uid"] for start in done.objects] == ["raw-1", "raw-0"]


def test_the_table_shows_the_range_that_was_asked_for(xpdml, server):
    done = xpdml("find", *server, "--where", "oxidation_state:2.5:", "--element", "Fe")
    assert done.status == 0
    assert "sample-1" in done.out
    assert "sample-0" not in done.out


def test_nothing_and_nonsense_are_told(xpdml, server):
    assert xpdml("find", *server, "--sample", "none").status == 1
    wrong = xpdml("find", *server, "--where", "oxidation_state")
    assert wrong.status == 2
    assert "NAME:LOW:HIGH" in wrong.err
