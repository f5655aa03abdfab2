"""Partial predictions of a running measurement: one run, one row per update."""

import math
import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from bluesky_xpdml.publish.documents import data_key, descriptor_document, event_document, summary
from bluesky_xpdml.publish.layout import Document, NamedDocument
from bluesky_xpdml.publish.writer import stream_uid
from bluesky_xpdml.records import PURPOSE, Prediction, Verdict
from bluesky_xpdml.vocabulary import Descriptor

LIVE_PURPOSE = f"{PURPOSE}.live"
"""`purpose` of the runs of partial predictions; searches for results leave them out by it."""
_UPDATES = "updates"
_CHANGING = ("completeness", "quality", "descriptors", "diagnostics", "models", "curves")
"""Entries that a start document cannot hold for rows that are still to come."""


class LiveRun:
    """The run of the partial predictions of one element in one measurement.

    Its stream is `updates`: completeness, a verdict (0 good, 1 suspect, 2 failed), and the main descriptors
    with their intervals; NaN while there is no answer. Its uid is random, and that of its descriptor follows
    from it, so that any process can go on with the run; `clock` returns the time of the documents
    [s since 1970].
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.uid = str(uuid4())
        self._clock = clock
        self._descriptor = stream_uid(self.uid, _UPDATES)
        self._n_updates = 0

    def update(self, prediction: Prediction) -> list[NamedDocument]:
        """Return the documents of one more row, for the first one with start and descriptor."""
        now = self._clock()
        data = _row(prediction)
        documents: list[NamedDocument] = []
        if not self._n_updates:
            constant = {key: value for key, value in summary(prediction).items() if key not in _CHANGING}
            documents.append(("start", constant | {"uid": self.uid, "time": now, "purpose": LIVE_PURPOSE}))
            documents.append(("descriptor", self._describe(data, now)))
        self._n_updates += 1
        event = event_document(str(uuid4()), self._descriptor, data, self._n_updates, now)
        return [*documents, ("event", event)]

    def finish(self) -> list[NamedDocument]:
        """Return the stop document; nothing if there never was an update."""
        if not self._n_updates:
            return []
        stop = live_stop(self.uid, time=self._clock(), rows=self._n_updates)
        return [("stop", stop)]

    def _describe(self, data: Mapping[str, float], now: float) -> Document:
        units = {f"{name}{end}": name.unit for name in Descriptor.main() for end in ("", "_low", "_high")}
        keys = {name: data_key(units.get(name, "1")) for name in data}
        return descriptor_document(self.uid, self._descriptor, _UPDATES, keys, now)


def live_stop(run: str, *, time: float, rows: int | None = None, exit_status: str = "success") -> Document:
    """Return the stop document of a run of partial predictions; `rows` is None if nobody counted them."""
    return {
        "uid": str(uuid4()),
        "run_start": run,
        "time": time,
        "exit_status": exit_status,
        "reason": "" if exit_status == "success" else "the process of the analysis was replaced",
        "num_events": {} if rows is None else {_UPDATES: rows},
    }


def _row(prediction: Prediction) -> dict[str, float]:
    data = {
        "completeness": float(prediction.completeness),
        "verdict": float(list(Verdict).index(prediction.quality.verdict)),
    }
    for descriptor in Descriptor.main():
        found, name = prediction.descriptors.get(descriptor), descriptor.value
        data[name] = float(found.value) if found else math.nan
        data[f"{name}_low"] = float(found.low) if found else math.nan
        data[f"{name}_high"] = float(found.high) if found else math.nan
    return data
