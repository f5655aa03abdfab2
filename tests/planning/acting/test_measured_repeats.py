"""Scans that a beamline made of nickel oxide, measured until their mean is narrow enough."""

from uuid import uuid4

import pytest
from bluesky import plan_stubs, preprocessors
from ophyd import Signal

from bluesky_xpdml import BundleStore, TiledPublisher, XpdmlCallback
from bluesky_xpdml.planning.count import WidthKind
from bluesky_xpdml.planning.stubs import Ended, MeasurementSetup, measure_until
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.sources.files import read_scan


def scan_again(path, md):
    """Plan: the rows of a measured scan, point by point."""
    scan = read_scan(path)
    columns = {"energy": scan.energy, "i0": scan.i0, "it": scan.it, "ir": scan.ir}
    signals = {name: Signal(name=name) for name, values in columns.items() if values is not None}

    def points():
        for row in range(scan.energy.size):
            for name, signal in signals.items():
                signal.put(float(columns[name][row]))
            yield from plan_stubs.trigger_and_read(list(signals.values()))

    about = {"plan_name": "xafs", "element": scan.element, "edge": scan.edge, **md}
    return (yield from preprocessors.run_wrapper(points(), md=about))


@pytest.mark.slow
def test_measured_repeats_end_when_their_mean_is_narrow(engine, tiled_server, shared_data):
    files = sorted((shared_data / "experiment" / "xanes" / "xraylarch").glob("NiO_NiO.0*.xdi"))
    coming = iter(files)
    publisher = TiledPublisher.from_uri(tiled_server.uri, path=f"repeats-{uuid4().hex[:8]}")
    by = MeasurementSetup(
        plans={"xanes": lambda sample, md: scan_again(next(coming), {"sample_name": sample, **md})},
        catalog=PredictionCatalog(publisher.container),
        timeout=300.0,
    )
    with XpdmlCallback(publisher, store=BundleStore.default()) as callback:
        token = engine.subscribe(callback)
        plan = measure_until("NiO", "oxidation_state", 0.2, by=by, at_most=10, judged=WidthKind.SCATTER)
        found = engine(plan).plan_result
        engine.unsubscribe(token)
    assert found.ended is Ended.NARROW, found.reason
    assert 2 <= len(found.raw_uids) <= 10
    assert found.failures == ()
    assert found.prediction.element == "Ni"
    assert abs(found.prediction.descriptors["oxidation_state"].value - 2.0) < 0.5
