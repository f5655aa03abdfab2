"""A catalog analysed anew while a worker is killed, and twice: every run is answered once."""

import pytest

from bluesky_xpdml.factory.bench import fault_reprocess


@pytest.mark.slow
def test_a_dask_worker_is_killed_in_the_midst(place, require_nothing_lost):
    require_nothing_lost(fault_reprocess.reprocess_worker_killed(place, 20))


@pytest.mark.slow
def test_a_catalog_is_analysed_twice(place, require_nothing_lost):
    require_nothing_lost(fault_reprocess.reprocess_twice(place, 12))
