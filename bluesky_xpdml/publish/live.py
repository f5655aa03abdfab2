"""Partial predictions of a measurement that goes on: one run, a row an update."""

import math
import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from bluesky_xpdml.publish.documents import Document, NamedDocument, summary
from bluesky_xpdml.records import PURPOSE, Prediction, Verdict

LIVE_PURPOSE = f"{PURPOSE}.live"
"""`purpose` of the runs of partial predictions; searches for results leave them out by it."""

_DESCRIPTORS: Mapping[str, str] = {
    "oxidation_state": "e",
    "coordination_number": "1",
    "bond_length": "angstrom",
}


class LiveRun:
    """The run of the partial predictions of one element in one measurement.

    Its stream is `updates`: completeness, a verdict (0 good, 1 suspect, 2 failed), and the descriptors with
    their intervals; NaN where there is no answer yet. It is a record of the moment, so its uid is its own.

    Parameters
    ----------
    clock
        Gives the time that the documents carry [s since 1970].

    Examples
    --------
    >>> from bluesky_xpdml.records import Quality
    >>> partial = Prediction(technique="pdf", element="Fe", edge="", quality=Quality(), completeness=0.5)
    >>> live = LiveRun()
    >>> [name for name, _ in (*live.update(partial), *live.update(partial), *live.finish())]
    ['start', 'descriptor', 'event', 'event', 'stop']
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.uid = str(uuid4())
        self._clock = clock
        self._descriptor = str(uuid4())
        self._n_updates = 0

    def update(self, prediction: Prediction) -> list[NamedDocument]:
        """Return the documents of one more row; the first brings start and descriptor along.

        Parameters
        ----------
        prediction
            What can be said up to now.
        """
        now = self._clock()
        data = _row(prediction)
        documents: list[NamedDocument] = []
        if not self._n_updates:
            said = {key: value for key, value in summary(prediction).items() if key not in _CHANGING}
            documents.append(("start", said | {"uid": self.uid, "time": now, "purpose": LIVE_PURPOSE}))
            documents.append(("descriptor", self._describe(data, now)))
        self._n_updates += 1
        event = {
            "uid": str(uuid4()),
            "descriptor": self._descriptor,
            "time": now,
            "seq_num": self._n_updates,
            "data": data,
            "timestamps": dict.fromkeys(data, now),
            "filled": {},
        }
        return [*documents, ("event", event)]

    def finish(self) -> list[NamedDocument]:
        """Return the stop document; nothing where there never was an update."""
        if not self._n_updates:
            return []
        stop = {
            "uid": str(uuid4()),
            "run_start": self.uid,
            "time": self._clock(),
            "exit_status": "success",
            "reason": "",
            "num_events": {"updates": self._n_updates},
        }
        return [("stop", stop)]

    def _describe(self, data: Mapping[str, float], now: float) -> Document:
        units = {f"{name}{end}": unit for name, unit in _DESCRIPTORS.items() for end in ("", "_low", "_high")}
        keys = {
            name: {
                "dtype": "number",
                "dtype_numpy": "<f8",
                "shape": [],
                "source": "bluesky_xpdml",
                "units": units.get(name, "1"),
            }
            for name in data
        }
        return {
            "uid": self._descriptor,
            "run_start": self.uid,
            "time": now,
            "name": "updates",
            "data_keys": keys,
            "object_keys": {"xpdml": list(keys)},
            "configuration": {},
            "hints": {},
        }


_CHANGING = ("completeness", "quality", "descriptors", "diagnostics", "models", "curves")
"""What a start document cannot say of rows that are still to come."""


def _row(prediction: Prediction) -> dict[str, float]:
    data = {
        "completeness": float(prediction.completeness),
        "verdict": float(list(Verdict).index(prediction.quality.verdict)),
    }
    for name in _DESCRIPTORS:
        found = prediction.descriptors.get(name)
        data[name] = float(found.value) if found else math.nan
        data[f"{name}_low"] = float(found.low) if found else math.nan
        data[f"{name}_high"] = float(found.high) if found else math.nan
    return data
