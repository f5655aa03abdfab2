"""The demonstration in one process: Tiled server, RunEngine, two simulated beamlines, and the callback."""

import tempfile
import time
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.demo.beamline import (
    EMPTY,
    ScatteringBeamline,
    ScatteringSample,
    SimulatedSample,
    XasBeamline,
    background_scan,
    load_scattering_samples,
    scan_sample,
    scattering_scan,
)
from bluesky_xpdml.errors import PublishError, needs_extra
from bluesky_xpdml.publish import find_predictions
from bluesky_xpdml.records import DemoMeasurement
from bluesky_xpdml.vocabulary import Technique

PATIENCE = 180.0
"""Longest wait for a prediction [s]."""
EXPOSURE = 10.0
"""Of an image, in the simulation's time [s]."""
POLL_INTERVAL = 0.005
"""Pause between two queries for a prediction [s]."""
PREDICTIONS, RAW = "xpdml", "raw"
"""Containers of the derived and of the raw runs."""
PIXELS = 1024
"""Rows and columns of the simulated area detector."""
CURVES = {Technique.XANES: ("energy", "mu_flat"), Technique.PDF: ("r", "g_r")}
"""Columns that are read back, by stream; the stream has the name of the technique."""


class Session:
    """An embedded Tiled server, a RunEngine, the simulated beamlines and the callback, as a context manager.

    The seed is that of the counting statistics. Leaving it closes the callback and the server.
    """

    def __init__(self, seed: int = 0) -> None:
        from bluesky import RunEngine
        from tiled.client import from_uri

        with needs_extra("demo"):
            from tiled.server.simple import SimpleTiledServer

        self._resources = ExitStack()
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="xpdml-"))
        self.server: Any = self._resources.enter_context(SimpleTiledServer(folder))
        self.callback = self._resources.enter_context(
            XpdmlCallback.from_uri(self.server.uri, path=PREDICTIONS)
        )
        self.client: Any = from_uri(self.server.uri)
        self._resources.callback(self.client.context.http_client.close)
        self.beamline = XasBeamline(seed=seed)
        self.scattering = ScatteringBeamline(seed=seed, pixels=PIXELS)
        self._background_taken = False
        self.engine: Any = RunEngine({})
        self.engine.subscribe(self.callback)
        self.engine.subscribe(self._store)
        self._stopped_at = 0.0
        self._documents: list[tuple[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._resources.close()

    def measure(self, name: str) -> DemoMeasurement:
        """Scan the absorption edge of a sample on the wheel, and wait for its prediction in Tiled."""
        (raw_uid,) = self.engine(scan_sample(self.beamline, name))
        return self._found(Technique.XANES, self.beamline.wheel.samples[name], raw_uid)

    def measure_scattering(self, name: str) -> DemoMeasurement:
        """Take images of a sample in the changer, once also of the empty one, and wait for its prediction."""
        if not self._background_taken:
            self.engine(background_scan(self.scattering, exposure=EXPOSURE))
            self._background_taken = True
        (raw_uid,) = self.engine(scattering_scan(self.scattering, name, exposure=EXPOSURE, background=EMPTY))
        samples = {sample.name: sample for sample in load_scattering_samples()}
        return self._found(Technique.PDF, samples[name], raw_uid)

    def publish_raw(self) -> None:
        """Write all measured raw runs to the server, for replays."""
        from bluesky_tiled_plugins import TiledWriter

        from bluesky_xpdml.publish.tiled import open_container

        writer = TiledWriter(open_container(self.client, RAW), max_array_size=0)
        for name, document in self._documents:
            writer(name, document)

    def _store(self, name: str, document: Any) -> None:
        self._documents.append((name, document))
        if name == "stop":
            self._stopped_at = time.perf_counter()

    def _found(
        self, technique: Technique, sample: SimulatedSample | ScatteringSample, raw_uid: str
    ) -> DemoMeasurement:
        run, seconds = self._find(raw_uid, sample.element)
        self.callback.drain(PATIENCE)
        # The run was found as soon as its start document was there: read the rest too.
        run = self.client[PREDICTIONS, run.metadata["start"]["uid"]]
        x, curve = np.empty(0), np.empty(0)
        if technique in run:
            x, curve = (np.ravel(run[technique][column].read()) for column in CURVES[technique])
            # Curves of one stream that are shorter than others are padded.
            x, curve = x[np.isfinite(x)], curve[np.isfinite(x)]
        return DemoMeasurement(
            technique=technique,
            name=sample.name,
            element=sample.element,
            truth=sample.truth,
            raw_uid=raw_uid,
            start=run.metadata["start"],
            seconds_stop_to_found=seconds,
            x=x,
            curve=curve,
        )

    def _find(self, raw_uid: str, element: str) -> tuple[Any, float]:
        while True:
            found = find_predictions(self.client[PREDICTIONS], raw_uid)
            seconds = time.perf_counter() - self._stopped_at
            for run in found:
                if run.metadata["start"]["element"] in {element, ""}:
                    return run, seconds
            if seconds > PATIENCE:
                msg = f"no prediction for run {raw_uid} after {PATIENCE:.0f} s: {self.callback.statistics}"
                raise PublishError(msg)
            time.sleep(POLL_INTERVAL)
