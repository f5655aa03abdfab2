"""What the tests of documents share: the streams that beamlines write."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def conventions() -> ModuleType:
    """Return the module that writes document streams as beamlines do."""
    spec = spec_from_file_location("xas_conventions", Path(__file__).with_name("conventions.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
