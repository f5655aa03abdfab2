"""Fixtures that every part of the suite shares."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine, plan_stubs, preprocessors

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured and reference data, which is not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development data are not beside the repository ({SHARED_DATA} is missing)")
    return SHARED_DATA


class Instrument:
    """A readable device that shows one row of a table after the other."""

    parent = None

    def __init__(self, columns: Mapping[str, Any], units: Mapping[str, str]) -> None:
        self.name = "instrument"
        self.hints = {"fields": list(columns)}
        self._columns = columns
        self._units = units
        self._row = -1

    def trigger_row(self) -> None:
        self._row += 1

    def describe(self) -> dict[str, dict[str, Any]]:
        keys: dict[str, dict[str, Any]] = {}
        for name in self._columns:
            keys[name] = {"source": "table", "dtype": "number", "shape": []}
            if name in self._units:
                keys[name]["units"] = self._units[name]
        return keys

    def read(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"value": float(values[self._row]), "timestamp": 0.0}
            for name, values in self._columns.items()
        }

    def describe_configuration(self) -> dict[str, Any]:
        return {}

    def read_configuration(self) -> dict[str, Any]:
        return {}


def table_scan(columns: Mapping[str, Any], *, units: Mapping[str, str], md: Mapping[str, Any]) -> Any:
    """Plan: one event a row of the table."""
    instrument = Instrument(columns, units)

    @preprocessors.run_decorator(md=dict(md))
    def scan() -> Any:
        for _ in range(len(next(iter(columns.values())))):
            instrument.trigger_row()
            yield from plan_stubs.create("primary")
            yield from plan_stubs.read(instrument)
            yield from plan_stubs.save()

    return (yield from scan())


@pytest.fixture(scope="session")
def run_engine() -> RunEngine:
    """Return the RunEngine that every test measures with."""
    return RunEngine({})


@pytest.fixture(scope="session")
def documents_of(run_engine: RunEngine) -> Callable[[Any], Documents]:
    """Return a function that runs a plan on the RunEngine and returns its documents."""

    def run(plan: Any) -> Documents:
        documents: Documents = []
        token = run_engine.subscribe(lambda name, document: documents.append((name, document)))
        try:
            run_engine(plan)
        finally:
            run_engine.unsubscribe(token)
        return documents

    return run


@pytest.fixture(scope="session")
def iron_columns() -> dict[str, np.ndarray]:
    """Counts over the iron K edge: the sample's at 7124 eV, the foil's 12.5 eV lower [eV, counts]."""
    energy = np.concatenate(
        [np.arange(6960.0, 7080.0, 5.0), np.arange(7080.0, 7180.0, 0.5), np.arange(7180.0, 7400.0, 4.0)]
    )

    def edge(position: float) -> np.ndarray:
        step = 0.5 + np.arctan((energy - position) / 2.0) / np.pi
        return step + 0.4 * np.exp(-(((energy - position - 6.0) / 4.0) ** 2))

    i0 = np.full(energy.size, 1e6)
    it = i0 * np.exp(-edge(7124.0) - 0.3)
    return {
        "energy": energy,
        "i0": i0,
        "it": it,
        "ir": it * np.exp(-0.7 * edge(7111.5) - 0.4),
        "fluorescence": 2e4 * (edge(7124.0) + 0.05),
    }


IRON = {"plan_name": "xafs", "element": "Fe", "edge": "K", "sample": {"name": "LFP-3", "uid": "s-1"}}


@pytest.fixture(scope="session")
def iron_scan(
    documents_of: Callable[[Any], Documents], iron_columns: dict[str, np.ndarray]
) -> Callable[..., Documents]:
    """Return a function that measures the iron spectrum and returns its documents.

    Its arguments: which channels, the unit of the axis, whether it descends, more for the start document.
    """

    def measure(
        channels: tuple[str, ...] = ("i0", "it", "ir"),
        *,
        unit: str | None = "eV",
        descending: bool = False,
        stop_after: int | None = None,
        **md: Any,
    ) -> Documents:
        columns = {name: iron_columns[name] for name in ("energy", *channels)}
        columns["energy"] = columns["energy"] / (1000.0 if unit == "keV" else 1.0)
        order = slice(None, None, -1) if descending else slice(None, stop_after)
        columns = {name: values[order] for name, values in columns.items()}
        start = IRON | {"num_points": iron_columns["energy"].size} | md
        units = {"energy": unit} if unit is not None else {}
        return documents_of(table_scan(columns, units=units, md=start))

    return measure


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a real Tiled server on a free local port, with temporary storage."""
    from tiled.server import SimpleTiledServer

    with SimpleTiledServer(tmp_path_factory.mktemp("tiled")) as server:
        yield server
