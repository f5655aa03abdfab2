"""How fast total scattering is reduced and simulated, beside peers."""

from importlib.util import find_spec
from typing import Any

import numpy as np

from bluesky_xpdml.analysis.scattering import ask_metals
from bluesky_xpdml.demo.beamline import ScatteringBeamline
from bluesky_xpdml.factory.bench.timing import median_ms, timing_row
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import ScatteringFrame
from bluesky_xpdml.reduction.image import reduce_image
from bluesky_xpdml.reduction.pdf import PdfSettings, reduce_pdf
from bluesky_xpdml.reduction.structure_function import sine_transform
from bluesky_xpdml.simulation.engines import Engine, pair_distribution
from bluesky_xpdml.simulation.structure import Structure

SAMPLE, COMPOSITION = "LaFeO3", "LaFeO3"
PIXELS = 2048
IMAGES = 20
"""Timings of an image at the most: each takes a tenth of a second."""


def time_scattering(repeats: int) -> list[dict[str, Any]]:
    """Time an image to its prediction, the transform, and the calculator.

    Parameters
    ----------
    repeats
        Timings of each; the median counts.
    """
    return [_image(min(repeats, IMAGES)), _transform(repeats), _calculator(repeats)]


def simulated_frame() -> ScatteringFrame:
    """Return one image of the simulated detector with its dark frame, as the devices give them."""
    beamline = ScatteringBeamline(seed=0, pixels=PIXELS)
    beamline.changer.set(SAMPLE)
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
