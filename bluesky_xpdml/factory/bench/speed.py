"""How fast it is, beside what people use today, in one run on one machine."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from bluesky_xpdml.analysis.xanes import analyse_scan
from bluesky_xpdml.demo.beamline import energy_grid
from bluesky_xpdml.demo.simulated_scan import SAMPLE, simulated_scan
from bluesky_xpdml.factory.bench.conditions import machine
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.bench.speed_scattering import time_scattering
from bluesky_xpdml.factory.bench.timing import median_ms, timing_row
from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

TREES = 150


def measure_speed(*, repeats: int, progress: Callable[[str, int, int], None]) -> Report:
    """Time reduction, prediction and import against peers, where these are installed.

    Parameters
    ----------
    repeats
        Timings of each; the median counts.
    progress
        Called with what is done, how many of it, and of how many.
    """
    steps = (_whole, _reduction, _forest, _batch, _import)
    rows = []
    for done, step in enumerate(steps, start=1):
        rows.append(step(repeats))
        progress("timed", done, len(steps) + 1)
    rows += time_scattering(repeats)
    progress("timed", len(steps) + 1, len(steps) + 1)
    return Report(
        what="speed beside peers, medians",
        conditions={"repeats": repeats, "spectrum": f"{SAMPLE}, {energy_grid(0.0).size} points", **machine()},
        rows=rows,
    )


def _whole(repeats: int) -> dict[str, Any]:
    scan, store, settings = simulated_scan(), BundleStore.default(), XanesSettings()
    ours = median_ms(lambda: analyse_scan(scan, store=store, settings=settings), repeats)
    return timing_row("XANES counts to prediction with intervals", ours, None, None)


def _reduction(repeats: int) -> dict[str, Any]:
    scan = simulated_scan()
    ours = median_ms(lambda: reduce_xanes(scan), repeats)
    name = "counts to normalised XANES, foil calibration included"
    if find_spec("larch") is None or scan.i0 is None or scan.it is None:
        return timing_row(name, ours, "larch pre_edge (not installed)", None)
    from larch import Group
    from larch.xafs import pre_edge

    mu = np.log(scan.i0 / scan.it)
    peer = median_ms(lambda: pre_edge(Group(energy=scan.energy, mu=mu)), repeats)
    return timing_row(name, ours, "larch pre_edge", peer)


def _forest(repeats: int) -> dict[str, Any]:
    from sklearn.ensemble import ExtraTreesClassifier

    random = np.random.default_rng(0)
    rows = random.normal(size=(3000, 72))
    classes = np.digitize(rows[:, :6].sum(axis=1) + random.normal(size=3000), [-2.0, 0.0, 2.0])
    fitted = ExtraTreesClassifier(TREES, min_samples_leaf=2, max_features="sqrt", random_state=0)
    fitted.fit(rows, classes)
    ours = compact_forest(fitted)
    one = rows[:1]
    peer = median_ms(lambda: fitted.predict_proba(one), repeats)
    name = f"one forest of {TREES} trees, one spectrum"
    return timing_row(name, median_ms(lambda: ours.predict(one), repeats), "scikit-learn", peer)


def _batch(repeats: int) -> dict[str, Any]:
    scans, store, settings = (
        [simulated_scan(seed) for seed in range(4)],
        BundleStore.default(),
        XanesSettings(),
    )

    def reprocess() -> None:
        for scan in scans:
            analyse_scan(scan, store=store, settings=settings)

    ours = median_ms(reprocess, repeats) / len(scans)
    return timing_row("reprocessing without Tiled, per spectrum and core", ours, None, None)


def _import(repeats: int) -> dict[str, Any]:
    def fresh(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: S603

    few = max(repeats // 20, 3)
    bare = median_ms(fresh("sys"), few)
    ours = median_ms(fresh("bluesky_xpdml"), few) - bare
    if find_spec("larch") is None:
        return timing_row("import bluesky_xpdml", ours, "import larch (not installed)", None)
    return timing_row("import bluesky_xpdml", ours, "import larch", median_ms(fresh("larch"), 3) - bare)
