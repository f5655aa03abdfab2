"""What the tests of the callbacks share: a callback whose derived runs are kept in a list."""

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import event_model
import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback


class Derived:
    """Derived runs as they were published."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        self.documents.append((name, document))

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [document for name, document in self.documents if name == "start"]

    def of(self, raw_uid: str) -> dict[str, Any]:
        """Return the start document of the one derived run of a raw run."""
        (start,) = (start for start in self.starts if start["raw_uid"] == raw_uid)
        return start


@pytest.fixture(scope="session")
def store() -> BundleStore:
    return BundleStore.default()


@pytest.fixture
def derived() -> Derived:
    return Derived()


@pytest.fixture
def callback(derived: Derived, store: BundleStore) -> Iterator[XpdmlCallback]:
    with XpdmlCallback(CallbackPublisher(derived), store=store) as open_callback:
        yield open_callback


@pytest.fixture(scope="session")
def conventions() -> ModuleType:
    """Return the module that writes document streams as beamlines do."""
    path = Path(__file__).resolve().parents[1] / "documents" / "conventions.py"
    spec = spec_from_file_location("xas_conventions_of_callbacks", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
