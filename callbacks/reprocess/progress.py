"""Which raw runs are done under the present settings and models, in a file of the state folder.

Start documents on the server do not tell: dark frames and other runs that are no measurements leave none, and
the settings that identify an answer are resolved from its data. So what was done is noted here under a digest
of settings and models, and counts only as long as the server still has the answers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bluesky_xpdml.callbacks.reprocess.worker import Unit, UnitResult
from bluesky_xpdml.publish.published import as_list, as_mapping
from bluesky_xpdml.publish.requests import PAGE, Requests
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.reduction.energy import MonoCalibration
from bluesky_xpdml.vocabulary import ReasonCode

_MAY_PASS = {
    ReasonCode.MISSING_DATA,
    ReasonCode.UNREADABLE_FILE,
    ReasonCode.FILE_REFUSED,
    ReasonCode.DARK_MISSING,
    ReasonCode.BACKGROUND_MISSING,
    ReasonCode.NO_STOP,
    ReasonCode.INTERNAL_ERROR,
    ReasonCode.TIME_LIMIT,
    ReasonCode.MEMORY_LIMIT,
    ReasonCode.PROCESS_ENDED,
    ReasonCode.EXTRA_MISSING,
}
"""Reasons of failures that another attempt may not have: such runs are never done."""


class Progress:
    """What was done under one digest, read from its file and added to it.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_xpdml.callbacks.reprocess.worker import RawRun
    >>> unit = Unit(runs=(RawRun(uid="a", time=0.0),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Progress(Path(folder) / "done.jsonl").record(UnitResult(unit=unit, answers={"a": ()}))
    ...     Progress(Path(folder) / "done.jsonl").derived(unit)
    frozenset()
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._derived: dict[tuple[str, ...], frozenset[str]] = {}
        self.calibrations: list[MonoCalibration] = []
        for entry in _entries(file):
            self._take(entry)

    def derived(self, unit: Unit) -> frozenset[str] | None:
        """Return the uids of the derived runs of a unit that is done; None if it is not."""
        return self._derived.get(unit.uids)

    def calibrates(self, uid: str) -> bool:
        """Return whether the foils of a raw run are known."""
        return any(uid in uids for uids in self._derived)

    def record(self, result: UnitResult) -> None:
        """Note a unit that is answered; one that another attempt may answer better is not noted."""
        starts = [start for answers in result.answers.values() for start in answers]
        if result.unread or result.unpublished or result.is_killed or any(map(_may_pass, starts)):
            self.calibrations += result.calibrations
            return
        entry = {
            "runs": result.unit.uids,
            "derived": [start["uid"] for start in starts],
            "calibrations": [asdict(each) for each in result.calibrations],
        }
        self._take(entry)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _take(self, entry: Mapping[str, Any]) -> None:
        """Remember one entry; one that is not understood is left out, and its runs are analysed again."""
        with suppress(KeyError, TypeError):
            calibrations = [MonoCalibration(**each) for each in entry["calibrations"]]
            self._derived[tuple(map(str, entry["runs"]))] = frozenset(map(str, entry["derived"]))
            self.calibrations += calibrations


def _entries(file: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a file; the last line may have been cut by the end of its writer."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            yield as_mapping(json.loads(line))


def _may_pass(start: Mapping[str, Any]) -> bool:
    """Return whether an answer is a failure that another attempt may not have."""
    quality = as_mapping(start.get("quality"))
    return quality.get("verdict") == Verdict.FAILED and any(
        code in _MAY_PASS for code in as_list(quality.get("codes"))
    )


def done(units: Sequence[Unit], progress: Progress, derived: Requests) -> set[tuple[str, ...]]:
    """Return those units that are done and whose answers the server still has, by the uids of their runs."""
    from tiled.queries import In

    noted = {unit.uids: found for unit in units if (found := progress.derived(unit)) is not None}
    uids = [uid for each in noted for uid in each]
    there: set[str] = set()
    for first in range(0, len(uids), PAGE):
        there.update(
            map(str, derived.distinct("start.uid", [In("start.raw_uid", uids[first : first + PAGE])]))
        )
    return {uids for uids, found in noted.items() if found <= there}
