"""Models are loaded while a run goes on, so that its answer does not wait for them."""

import pytest

from bluesky_xpdml import BundleStore, Settings
from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.callbacks.processor import Processor
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.demo.beamline import ScatteringBeamline, XasBeamline, scan_sample, scattering_scan
from bluesky_xpdml.errors import ModelNotFoundError


class Asked(BundleStore):
    """Holds no model, and notes for what it was asked."""

    def __init__(self, folder):
        super().__init__(folder)
        self.keys = []

    def find(self, element, edge, modality):
        self.keys.append((element, edge, str(modality)))
        raise ModelNotFoundError("no model")


@pytest.fixture
def asked(tmp_path, documents_of):
    """Return a function that feeds the beginning of a run, in steps, and returns the models asked for."""

    def feed(plan, *, n_events, idle=True):
        store = Asked(tmp_path)
        processor = Processor(RunAnalysis(Settings(), store=store), Router())
        documents = documents_of(plan)
        ends = [index for index, (name, _) in enumerate(documents, start=1) if name == "event"]
        for document in documents[: ends[n_events - 1]]:
            assert list(processor.feed([document], update=idle)) == []
        assert processor.errors == 0
        return store.keys

    return feed


def test_the_model_of_a_scan_is_loaded_once_it_has_begun(asked):
    assert asked(scan_sample(XasBeamline(seed=1), "LaFeO3"), n_events=5) == [("Fe", "K", "xanes")]


def test_the_models_of_all_metals_of_a_sample_are_loaded(asked):
    beamline = ScatteringBeamline(seed=1)
    plan = scattering_scan(beamline, "Na2TiSiO5", exposure=1.0)
    assert asked(plan, n_events=1) == [("Ti", "", "pdf")]


def test_nothing_is_loaded_while_documents_wait(asked):
    assert asked(scan_sample(XasBeamline(seed=1), "LaFeO3"), n_events=5, idle=False) == []


def test_a_run_of_another_kind_asks_for_no_model(asked):
    from bluesky.plans import count
    from ophyd.sim import det

    assert asked(count([det], num=2), n_events=2) == []
