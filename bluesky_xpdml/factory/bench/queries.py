"""Duration of queries over ten thousand derived runs, by kind."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from bluesky_xpdml.demo.beamline import XasBeamline, scan_sample
from bluesky_xpdml.demo.session import PATIENCE
from bluesky_xpdml.factory.bench.fault_server import KEY, Server
from bluesky_xpdml.factory.bench.report import Report, machine
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.publish import CallbackPublisher, PredictionCatalog, Query, TiledPublisher
from bluesky_xpdml.publish.documents import Document
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.vocabulary import Descriptor

AT_ONCE = 500
"""Runs per transaction."""
BEGIN = 1.7e9
"""Time of the first prediction [s since 1970]; one comes every minute."""
SAMPLES, PROPOSALS, ELEMENTS = 200, 20, ("Fe", "Ni", "Co", "Mn", "Ti")
AGAIN = 10
"""One run in so many has a second prediction, by a newer bundle."""


def measure_queries(
    *, runs: int, repeats: int, seed: int, progress: Callable[[str, int, int], None]
) -> Report:
    """Time every kind of query several times, on a server in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="xpdml-") as folder, Server(Path(folder)) as server:
        uri = f"{server.uri}?api_key={KEY}"
        return time_queries(uri, server.storage, runs=runs, repeats=repeats, seed=seed, progress=progress)


def time_queries(
    uri: str,
    storage: Path,
    *,
    path: str = "xpdml",
    runs: int,
    repeats: int,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> Report:
    """Fill a container of a server with derived runs and time every kind of query several times."""
    with closing(TiledPublisher.from_uri(uri, path=path)) as publisher:
        sizes = fill(storage, path, realistic(runs, seed=seed))
        catalog = PredictionCatalog(publisher.container)
        kinds = _kinds(catalog, runs, np.random.default_rng(seed))
        rows = []
        for done, (kind, ask) in enumerate(kinds.items(), start=1):
            rows.append(_row(kind, ask, repeats))
            progress("kinds of queries", done, len(kinds))
    return Report(
        what=f"a query over {runs} derived runs",
        conditions={
            "runs": runs,
            "start document": f"{np.mean(sizes):.0f} bytes in the mean",
            "answered twice": f"one raw run in {AGAIN}",
            "server": "on the same computer, SQLite on disk",
            "first question of a kind": "counted",
            **machine(),
        },
        rows=rows,
    )


def realistic(runs: int, *, seed: int) -> Iterator[Document]:
    """Yield start documents like those that the callback publishes, each with other values."""
    chance = np.random.default_rng(seed)
    model = _measured_start()
    for number in range(runs):
        raw = number - 1 if number % AGAIN == AGAIN - 1 else number
        uid, raw_uid = (str(UUID(int=base + n)) for base, n in ((1 << 100, number), (1 << 110, raw)))
        verdict = list(Verdict)[chance.choice(3, p=(0.8, 0.15, 0.05))]
        told = {
            "uid": uid,
            "time": BEGIN + 60.0 * number,
            "raw_uid": raw_uid,
            "raw_uids": [raw_uid],
            "element": ELEMENTS[raw % len(ELEMENTS)],
            "sample": {"name": f"sample-{raw % SAMPLES}", "uid": f"s-{raw % SAMPLES}", "composition": "FeO"},
            "origin": {**model["origin"], "proposal": str(310_000 + raw % PROPOSALS), "beamline": "ISS"},
            "quality": {"verdict": str(verdict), "reasons": []},
            "descriptors": {},
        }
        if verdict is not Verdict.FAILED:
            told["descriptors"] = {
                name: {**each, "value": float(chance.uniform(0.0, 6.0))}
                for name, each in model["descriptors"].items()
            }
        yield {**model, **told}


def fill(folder: Path, path: str, starts: Iterator[Document] | Sequence[Document]) -> list[int]:
    """Insert derived runs, without streams, into a server's database; return their sizes [bytes]."""
    import sqlalchemy as sa
    from sqlalchemy.orm import Session
    from tiled.catalog import orm

    sizes: list[int] = []
    engine = sa.create_engine(f"sqlite:///{folder / 'catalog.db'}")
    with Session(engine) as session:
        parent = 0
        for part in path.strip("/").split("/"):
            node = sa.select(orm.Node.id).where(orm.Node.key == part, orm.Node.parent == parent)
            parent = session.execute(node).scalar_one()
        rows = (_node(parent, start) for start in starts)
        while batch := list(islice(rows, AT_ONCE)):
            sizes += [len(json.dumps(row["metadata_"]["start"])) for row in batch]
            session.execute(sa.insert(orm.Node), batch)
            session.commit()
    engine.dispose()
    return sizes


def _node(parent: int, start: Document) -> dict[str, Any]:
    stop = {
        "uid": start["uid"],
        "run_start": start["uid"],
        "time": start["time"],
        "exit_status": "success",
        "reason": "",
        "num_events": {"xanes": 1, "predictions": 1},
    }
    return {
        "parent": parent,
        "key": start["uid"],
        "structure_family": "container",
        "metadata_": {"start": start, "stop": stop},
        "specs": [{"name": "BlueskyRun", "version": "3.0"}],
        # Tiled 0.2.9 has no default for it.
        "access_blob": {},
    }


def _measured_start() -> Document:
    """Return the start document of a spectrum measured on the simulated beamline."""
    from bluesky import RunEngine

    from bluesky_xpdml.callbacks.callback import XpdmlCallback

    starts: list[Document] = []

    def keep(name: str, document: Document) -> None:
        if name == "start":
            starts.append(document)

    beamline, engine = XasBeamline(seed=1), RunEngine({})
    with XpdmlCallback(CallbackPublisher(keep), store=BundleStore.default()) as callback:
        engine.subscribe(callback)
        engine(scan_sample(beamline, next(iter(beamline.wheel.samples))))
        callback.drain(PATIENCE)
    return starts[0]


def _kinds(
    catalog: PredictionCatalog, runs: int, chance: np.random.Generator
) -> dict[str, Callable[[], object]]:
    """Return the queries by name; each call has other parameters."""
    end = catalog.end()

    def uid() -> str:
        return str(UUID(int=(1 << 110) + AGAIN * int(chance.integers(runs // AGAIN))))

    def between(width: float) -> dict[str, tuple[float, float]]:
        low = float(chance.uniform(0.0, 6.0 - width))
        return {Descriptor.OXIDATION_STATE: (low, low + width)}

    def at() -> float:
        return BEGIN + 60.0 * int(chance.integers(runs))

    queries: dict[str, Callable[[], Query]] = {
        "newest 100": Query,
        "raw run": lambda: Query(raw_uid=uid()),
        "sample": lambda: Query(sample=f"sample-{chance.integers(SAMPLES)}"),
        "proposal": lambda: Query(proposal=str(310_000 + chance.integers(PROPOSALS))),
        "element": lambda: Query(element=ELEMENTS[chance.integers(len(ELEMENTS))]),
        "descriptor, wide range": lambda: Query(descriptors=between(2.0)),
        "descriptor, narrow range": lambda: Query(descriptors=between(0.01)),
        "verdict suspect": lambda: Query(verdicts=(Verdict.SUSPECT,)),
        "last hour": lambda: Query(after=BEGIN + 60.0 * (runs - 60)),
        "a day": lambda: Query(after=(begin := at()), before=begin + 86_400.0),
        "sample, element, good, range": lambda: Query(
            sample=f"sample-{chance.integers(SAMPLES)}",
            element="Fe",
            verdicts=(Verdict.GOOD,),
            descriptors=between(2.0),
        ),
        "nothing there": lambda: Query(sample="none"),
    }
    kinds: dict[str, Callable[[], object]] = {
        kind: partial(_find, catalog, make) for kind, make in queries.items()
    }
    kinds["history of a raw run"] = lambda: catalog.history(uid())
    kinds["since the last"] = lambda: catalog.since(end)
    kinds["where the end is"] = catalog.end
    return kinds


def _find(catalog: PredictionCatalog, make: Callable[[], Query]) -> object:
    return catalog.find(make())


def _row(kind: str, ask: Callable[[], Any], repeats: int) -> dict[str, Any]:
    durations, found = [], 0
    for _ in range(repeats):
        begin = time.perf_counter()
        answer = ask()
        durations.append((time.perf_counter() - begin) * 1e3)
        found = len(answer) if isinstance(answer, list) else 0
    quantiles = {f"p{q}": float(np.percentile(durations, q)) for q in (50, 95)}
    return {"query": kind, **quantiles, "worst": max(durations), "found": found, "n": repeats, "unit": "ms"}
