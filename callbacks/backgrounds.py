"""Patterns of recent runs: any of them may be the background of a later one."""

from collections import OrderedDict

from bluesky_xpdml.records import ScatteringPattern

PATTERNS_KEPT = 64
"""Patterns are small; a beamtime measures few empty containers."""


class Backgrounds:
    """Patterns by the uid of their run and by the name of its sample, the most recent ones.

    Examples
    --------
    >>> import numpy as np
    >>> from bluesky_xpdml.records import Sample
    >>> q = np.linspace(1.0, 20.0, 100)
    >>> kept = Backgrounds()
    >>> kept.keep("a", ScatteringPattern(q=q, intensity=q, sample=Sample(name="kapton")))
    >>> kept.find("kapton") is kept.find("a")
    True
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, ScatteringPattern] = OrderedDict()

    def keep(self, uid: str, pattern: ScatteringPattern) -> None:
        """Keep the pattern of a run; the oldest makes room.

        Parameters
        ----------
        uid
            Start uid of the run.
        pattern
            What was measured.
        """
        self._kept[uid] = pattern
        self._kept.move_to_end(uid)
        while len(self._kept) > PATTERNS_KEPT:
            self._kept.popitem(last=False)

    def find(self, name: str) -> ScatteringPattern | None:
        """Return the pattern of a run by its uid, or the latest of a sample by its name; None without one.

        Parameters
        ----------
        name
            Uid of a run or name of a sample.
        """
        if name in self._kept:
            return self._kept[name]
        named = [pattern for pattern in self._kept.values() if pattern.sample.name == name]
        return named[-1] if named else None
