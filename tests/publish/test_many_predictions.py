"""Ten thousand derived runs: every kind of query finds what it should, whatever page it stands on."""

import numpy as np
import pytest

from bluesky_xpdml.factory.bench.queries import AGAIN, fill, realistic
from bluesky_xpdml.publish import Cursor, Query, published

RUNS = 10_000


@pytest.mark.slow
def test_a_catalog_of_ten_thousand_runs(catalog, tiled_server):
    starts = list(realistic(RUNS, seed=3))
    fill(tiled_server.directory, "/".join(catalog.container.path_parts), starts)
    counting = {}
    for each in map(published, starts):
        counting[each.question] = max(each, counting.get(each.question, each), key=lambda each: each.rank)
    assert len(counting) == RUNS * (AGAIN - 1) // AGAIN
    states = {
        each.uid: each.descriptors["oxidation_state"].value for each in counting.values() if not each.failed
    }
    for low, high in ((2.0, 2.02), (2.0, 2.1), (5.5, 5.52)):
        asked = Query(descriptors={"oxidation_state": (low, high)})
        wanted = {uid for uid, state in states.items() if low <= state <= high}
        assert {each.uid for each in catalog.find(asked, limit=1000)} == wanted
    newest = catalog.find(Query(), limit=300)
    assert [each.time for each in newest] == sorted((each.time for each in counting.values()), reverse=True)[
        :300
    ]
    found, cursor = catalog.since(Cursor(), limit=RUNS + 1, superseded=True)
    np.testing.assert_array_equal([each.uid for each in found], [start["uid"] for start in starts])
    assert catalog.since(cursor)[0] == []
    found, _ = catalog.since(Cursor(), limit=300)
    best = {each.uid for each in counting.values()}
    in_order = [start["uid"] for start in starts if start["uid"] in best]
    assert [each.uid for each in found] == in_order[:300]
