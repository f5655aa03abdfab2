"""A whole beamline in one process: Tiled server, RunEngine, simulated devices, and the callback."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from bluesky_xpdml.beamline import SimulatedSample, XasBeamline, scan_sample
from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import find_predictions
from bluesky_xpdml.records import FloatArray

PATIENCE = 60.0
"""A prediction that has not appeared after this long is given up [s]."""
POLL_INTERVAL = 0.005
"""Pause between two queries for a prediction [s]."""
PREDICTIONS, RAW = "xpdml", "raw"
"""Containers of the derived and of the raw runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One sample measured, predicted, and found again in Tiled."""

    sample: SimulatedSample
    raw_uid: str
    start: Mapping[str, Any]
    """Start document of the derived run, as Tiled gives it back."""
    seconds_stop_to_found: float
    """From the stop document of the raw run to the prediction being found in Tiled [s]."""
    energy: FloatArray
    """Energy of the spectrum as read back from Tiled [eV], (n,); empty where the prediction failed."""
    mu_flat: FloatArray
    """Flattened spectrum as read back from Tiled, (n,)."""


class Session:
    """An embedded Tiled server, a RunEngine, the simulated beamline and the callback.

    Use it as a context manager; leaving it closes the callback and the server.

    Parameters
    ----------
    seed
        Of the counting statistics.
    """

    def __init__(self, seed: int = 0) -> None:
        from bluesky import RunEngine
        from tiled.client import from_uri
        from tiled.server.simple import SimpleTiledServer

        self._resources = ExitStack()
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="xpdml-"))
        self.server: Any = self._resources.enter_context(SimpleTiledServer(folder))
        self.callback = self._resources.enter_context(
            XpdmlCallback.from_uri(self.server.uri, path=PREDICTIONS)
        )
        self.client: Any = from_uri(self.server.uri)
        self.beamline = XasBeamline(seed=seed)
        self.engine: Any = RunEngine({})
        self.engine.subscribe(self.callback)
        self.engine.subscribe(self._keep)
        self._stopped_at = 0.0
        self._documents: list[tuple[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.close()

    def measure(self, name: str) -> Measurement:
        """Scan one sample and wait until its prediction is found in Tiled.

        Parameters
        ----------
        name
            Name of a sample on the wheel.

        Raises
        ------
        PublishError
            If the prediction does not appear within a minute.
        """
        (raw_uid,) = self.engine(scan_sample(self.beamline, name))
        run, seconds = self._find(raw_uid)
        self.callback.drain(PATIENCE)
        energy, mu_flat = self._spectrum(run)
        return Measurement(
            sample=self.beamline.wheel.samples[name],
            raw_uid=raw_uid,
            start=run.metadata["start"],
            seconds_stop_to_found=seconds,
            energy=energy,
            mu_flat=mu_flat,
        )

    def publish_raw(self) -> None:
        """Write every raw run that was measured into the server, for replays."""
        from bluesky_tiled_plugins import TiledWriter

        from bluesky_xpdml.publish.tiled import open_container

        writer = TiledWriter(open_container(self.client, RAW), max_array_size=0)
        for name, document in self._documents:
            writer(name, document)

    def _keep(self, name: str, document: Any) -> None:
        self._documents.append((name, document))
        if name == "stop":
            self._stopped_at = time.perf_counter()

    def _find(self, raw_uid: str) -> tuple[Any, float]:
        while True:
            found = find_predictions(self.client[PREDICTIONS], raw_uid)
            seconds = time.perf_counter() - self._stopped_at
            if found:
                return found[0], seconds
            if seconds > PATIENCE:
                msg = f"no prediction for run {raw_uid} after {PATIENCE:.0f} s: {self.callback.statistics}"
                raise PublishError(msg)
            time.sleep(POLL_INTERVAL)

    def _spectrum(self, run: Any) -> tuple[FloatArray, FloatArray]:
        # The run was found as soon as its start document was there: ask again for what came after.
        run = self.client[PREDICTIONS, run.metadata["start"]["uid"]]
        if "xanes" not in run:
            return np.empty(0), np.empty(0)
        stream = run["xanes"]
        return np.ravel(stream["energy"].read()), np.ravel(stream["mu_flat"].read())
