"""What the tests of pairing share: answers of both techniques, and containers of their own."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path

import pytest

from bluesky_xpdml import BundleStore, TiledPublisher
from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.pairing.pairing import Pairing
from bluesky_xpdml.pairing.publisher import Follower, Pairer, PairingPublisher
from bluesky_xpdml.publish import PredictionCatalog, Query
from bluesky_xpdml.settings import PairingSettings, Settings

HOUR = PairingSettings(within=3600.0)
_numbers = count()


@pytest.fixture(scope="session")
def store():
    return BundleStore.default()


@pytest.fixture(scope="session")
def pairs():
    """Return the module that makes answers to spectra and pair distribution functions of one sample."""
    path = Path(__file__).with_name("pairs.py")
    spec = spec_from_file_location("pairs_of_measurements", path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Beamtime:
    """A container and what publishes into it; each publisher has its own connection, as a process has."""

    def __init__(self, server, store):
        self.uri, self.store = server.uri, store
        self.path = f"pairing/{next(_numbers)}"
        self.opened = []
        self.catalog = PredictionCatalog(self.publisher().container)

    def publisher(self):
        self.opened.append(TiledPublisher.from_uri(self.uri, path=self.path))
        return self.opened[-1]

    def pairing(self, catalog=None, store=None):
        analysis = Analysis(Settings(pairing=HOUR), store=store or self.store)
        return Pairing(catalog=catalog or self.catalog, analysis=analysis)

    def beamline(self, store=None):
        """Return the publisher of a beamline that pairs."""
        inner = self.publisher()
        return PairingPublisher(inner, self.pairing(PredictionCatalog(inner.container), store))

    def process(self):
        """Return what `xpdml pair` runs."""
        inner = self.publisher()
        pairer = Pairer(inner, self.pairing(PredictionCatalog(inner.container)))
        return Follower(pairer), pairer

    def joint(self):
        """Return all joint answers, newest first."""
        return self.catalog.find(Query(technique="xanes+pdf"), superseded=True)

    def raw(self):
        return sorted(each.raw_uids for each in self.joint())

    def close(self):
        for publisher in self.opened:
            publisher.close()


@pytest.fixture
def beamtime(tiled_server, store):
    opened = Beamtime(tiled_server, store)
    yield opened
    opened.close()
