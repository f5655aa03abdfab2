"""Trials of files that claim more than they hold, or never end: named by documents, or in a bundle."""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from lzma import compress
from pathlib import Path
from shutil import copytree
from statistics import median

from bluesky_xpdml.factory.bench.fault_place import ANSWERING, Place, Row

LIMITS: Mapping[str, float] = {"time": 5.0}
"""Of a run, so that files that never answer do not take minutes."""
BOMB = 1_000_000_000
"""Size of what a small compressed file holds [bytes]."""


def files_named(place: Place, runs: int) -> list[Row]:
    """Let every second run name a file that is none, never ends, or claims to hold gigabytes."""
    folder = place.folder / "named"
    folder.mkdir()
    fifo = folder / "pipe.h5"
    os.mkfifo(fifo)
    rows = []
    named = {"a FIFO": fifo, "/dev/zero": Path("/dev/zero"), "a 42 kB HDF5 of 60,000 x 60,000": _hdf5(folder)}
    for what, file in named.items():
        plan = place.plan(
            f"named-{file.stem}",
            runs,
            hostile=[str(file)],
            limits=LIMITS,
            drain=ANSWERING,
            end="close",
        )
        with place.session(plan) as session:
            session.wait(ANSWERING)
        rows.append(place.row(f"every second run names {what}", plan, [session], failures=plan.uids[1::2]))
    return rows


def day(place: Place, runs: int) -> Row:
    """Feed good runs and others as fast as they are answered; `growth` is that of the memory within the day.

    It is the median of the last third of the measurements of memory over that of the first.
    """
    folder = place.folder / "day"
    folder.mkdir()
    plan = place.plan(
        "day",
        runs,
        hostile=[str(_hdf5(folder)), "/dev/zero", str(folder / "missing.h5")],
        limits=LIMITS,
        keep_up=True,
        drain=ANSWERING,
        end="close",
    )
    with place.session(plan) as session:
        session.wait(12.0 * ANSWERING)
    third = len(session.memory) // 3
    growth = median(session.memory[-third:]) / median(session.memory[:third])
    return place.row("a day of a beamline", plan, [session], failures=plan.uids[1::2]) | {"growth": growth}


def bundle_bomb(place: Place, runs: int) -> list[Row]:
    """Answer with a folder of bundles of which one holds a gigabyte of zeros in 150 kB."""
    from bluesky_xpdml.models.store import SHIPPED

    folder = place.folder / "bundles"
    copytree(SHIPPED, folder)
    for bundle in sorted(folder.glob("Fe-xanes-*")):
        _arm(bundle)
    plan = place.plan("bundle", runs, models=str(folder), limits=LIMITS, drain=ANSWERING, end="close")
    with place.session(plan) as session:
        session.wait(ANSWERING)
    # The models of iron are at fault: each run ends as a failure with the reason.
    return [place.row("a bundle of 150 kB that holds 1 GB", plan, [session], failures=plan.uids)]


def _arm(bundle: Path) -> None:
    """Replace the packed arrays of a bundle, its hashes too."""
    bomb = compress(bytes(BOMB), preset=0)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest["files"]:
        if name.endswith(".xz"):
            (bundle / name).write_bytes(bomb)
            manifest["files"][name] = sha256(bomb).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _hdf5(folder: Path) -> Path:
    import h5py

    path = folder / "huge.h5"
    with h5py.File(path, "w") as file:
        shape, chunks = (1, 60_000, 60_000), (1, 600, 600)
        for name in ("flat", "entry/data/data"):
            file.create_dataset(name, shape, "u2", chunks=chunks, compression="gzip")
    return path
