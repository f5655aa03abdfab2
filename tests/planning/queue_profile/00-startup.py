"""Startup profile of the RE manager in the tests: a furnace, a plan, and what publishes predictions.

The predictions are a stand-in's: a step of the oxidation state at 500 K. Everything else, RunEngine,
documents, origin, derived runs and Tiled, is real.
"""

import os

from bluesky import RunEngine, plan_stubs, preprocessors
from ophyd.sim import SynAxis

from bluesky_xpdml.documents.start import origin_of
from bluesky_xpdml.publish.documents import derived_run
from bluesky_xpdml.publish.tiled import TiledPublisher
from bluesky_xpdml.records import Estimate, Prediction, Quality

furnace = SynAxis(name="furnace")


class Analysis:
    """Publishes a prediction of each run that has ended well."""

    def __init__(self):
        path = os.environ["XPDML_TEST_PATH"]
        self.publisher = TiledPublisher.from_uri(os.environ["XPDML_TEST_TILED"], path=path)
        self.start = {}
        self.kelvin = 0.0

    def __call__(self, name, document):
        if name == "start":
            self.start = document
        if name == "event":
            self.kelvin = document["data"]["furnace"]
        if name == "stop" and document["exit_status"] == "success" and self.start["analysed"] != "not":
            self.publisher.publish(derived_run(self.prediction()))

    def prediction(self):
        state = 2.0 if self.kelvin < 500.0 else 3.0
        known = {
            "technique": "xanes",
            "element": "Fe",
            "edge": "K",
            "origin": origin_of(self.start),
            "raw_uids": (self.start["uid"],),
        }
        if self.start["analysed"] == "in vain":
            return Prediction(quality=Quality().failed("the detector was saturated"), **known)
        answer = Estimate(value=state, low=state - 0.1, high=state + 0.1, unit="")
        return Prediction(descriptors={"oxidation_state": answer}, quality=Quality(), **known)


def measure(kelvin: float, hold: float = 0.0, breaks_above: float = 1e9, analysed: str = "well"):
    """Heat, hold [s] and count; break the plan above a temperature [K]."""

    @preprocessors.run_decorator(md={"analysed": analysed})
    def run():
        yield from plan_stubs.mv(furnace, kelvin)
        yield from plan_stubs.sleep(hold)
        if kelvin > breaks_above:
            raise RuntimeError("the furnace tripped")
        yield from plan_stubs.trigger_and_read([furnace])

    return (yield from run())


RE = RunEngine({})
RE.subscribe(Analysis())
