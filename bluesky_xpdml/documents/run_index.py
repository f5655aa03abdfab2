"""Which run a document belongs to."""

from collections.abc import Mapping

_RUN_KEYS = {
    "start": "uid",
    "descriptor": "run_start",
    "stop": "run_start",
    "resource": "run_start",
    "stream_resource": "run_start",
}


class RunIndex:
    """Tells which run a document belongs to, as far as documents say so."""

    def __init__(self) -> None:
        self._run_of: dict[str, str] = {}

    def find(self, name: str, doc: object) -> str:
        """Return the uid of the run that a document belongs to; empty if it names none that is known."""
        if not isinstance(doc, Mapping):
            return ""
        if name in _RUN_KEYS:
            run = _text(doc.get(_RUN_KEYS[name])) or self._only_run(name)
            if run and name != "stop":
                self._run_of[_text(doc.get("uid"))] = run
            return run
        of = "resource" if name in {"datum", "datum_page"} else "descriptor"
        return self._run_of.get(_text(doc.get(of)), "")

    def forget(self, run: str) -> None:
        """Forget a run that has ended, and what belongs to it."""
        self._run_of = {uid: each for uid, each in self._run_of.items() if each != run}

    def _only_run(self, name: str) -> str:
        """Return the run of a resource that names none: the only open one."""
        runs = set(self._run_of.values())
        return runs.pop() if name == "resource" and len(runs) == 1 else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
