"""How fast it is, beside what people use today, in one run on one machine."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from bluesky_xpdml.analysis.scattering import ask_metals
from bluesky_xpdml.analysis.xanes import analyse_scan
from bluesky_xpdml.demo.beamline import ScatteringBeamline, energy_grid
from bluesky_xpdml.demo.simulated_scan import SAMPLE, simulated_scan
from bluesky_xpdml.factory.bench.report import Report, machine, median_ms, timing_row
from bluesky_xpdml.factory.training.forests import compact_forest
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import ScatteringFrame
from bluesky_xpdml.reduction.image import reduce_image
from bluesky_xpdml.reduction.pdf import PdfSettings, reduce_pdf
from bluesky_xpdml.reduction.structure_function import sine_transform
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.simulation.pair_distribution import Engine, pair_distribution
from bluesky_xpdml.simulation.structure import Structure

TREES = 150


def measure_speed(*, repeats: int, progress: Callable[[str, int, int], None]) -> Report:
    """Time reduction, prediction and import against peers, where these are installed."""
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


POWDER, COMPOSITION = "LaFeO3", "LaFeO3"
PIXELS = 2048
IMAGES = 20
"""Timings of an image at the most: each takes a tenth of a second."""


def time_scattering(repeats: int) -> list[dict[str, Any]]:
    """Time an image to its prediction, the transform, and the calculator."""
    return [_image(min(repeats, IMAGES)), _transform(repeats), _calculator(repeats)]


def simulated_frame() -> ScatteringFrame:
    """Return one image of the simulated detector with its dark frame, as the devices give them."""
    beamline = ScatteringBeamline(seed=0, pixels=PIXELS)
    beamline.changer.set(POWDER)
    dark = np.asarray(beamline.detector.expose(), dtype=float)
    beamline.shutter.set("open")
    return ScatteringFrame(
        image=beamline.detector.expose(),
        dark=dark,
        mask=beamline.detector.bad_pixels,
        calibration=beamline.detector.calibration,
    )


def _image(repeats: int) -> dict[str, Any]:
    frame, store = simulated_frame(), BundleStore.default()
    settings = PdfSettings(composition=COMPOSITION)

    def predict() -> object:
        return ask_metals(reduce_pdf(reduce_image(frame), settings), store)

    ours = median_ms(predict, repeats)
    return timing_row(f"image of {PIXELS} x {PIXELS} pixels to prediction, integrator warm", ours, None, None)


def _transform(repeats: int) -> dict[str, Any]:
    q, r = np.arange(0.5, 25.0, 0.01), np.arange(0.01, 30.0, 0.01)
    f = np.sin(2.5 * q) * np.exp(-0.01 * q**2)
    ours = median_ms(lambda: sine_transform(q, f, r), repeats)
    name = f"F(Q) to G(r), {q.size} to {r.size} points"
    if find_spec("pystog") is None:
        return timing_row(name, ours, "pystog S_to_G (not installed)", None)
    from pystog import Transformer

    s = 1.0 + f / q
    peer = median_ms(lambda: Transformer().S_to_G(q, s, r), min(repeats, IMAGES))
    return timing_row(name, ours, "pystog S_to_G", peer)


def _calculator(repeats: int) -> dict[str, Any]:
    rutile = Structure(
        lattice=np.diag([4.594, 4.594, 2.959]),
        fractional=np.array(
            [
                [0.0, 0.0, 0.0],
                [0.5, 0.5, 0.5],
                [0.305, 0.305, 0.0],
                [0.695, 0.695, 0.0],
                [0.195, 0.805, 0.5],
                [0.805, 0.195, 0.5],
            ]
        ),
        species=("Ti", "Ti", "O", "O", "O", "O"),
    )

    def calculate(engine: Engine) -> object:
        return pair_distribution(rutile, q_max=25.0, u_iso=0.005, engine=engine)

    ours = median_ms(lambda: calculate(Engine.NUMPY), repeats)
    name = "structure of 6 atoms to G(r), 30 angstrom"
    if find_spec("diffpy") is None or find_spec("diffpy.srreal") is None:
        return timing_row(name, ours, "diffpy.srreal (not installed)", None)
    peer = median_ms(lambda: calculate(Engine.SRREAL), min(repeats, IMAGES))
    return timing_row(name, ours, "diffpy.srreal", peer)
