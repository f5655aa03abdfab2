"""The command line as its users start it: a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan

PROGRAM = Path(sys.executable).with_name("xpdml")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Return the JSON objects on stdout, one a line; anything else there is an error."""
        return [json.loads(line) for line in self.out.splitlines()]


class Run(Protocol):
    def __call__(self, *arguments: str | Path, timeout: float = 120.0) -> Outcome: ...


@pytest.fixture
def xpdml(tmp_path: Path) -> Run:
    """Return a function that runs `xpdml` in an empty folder."""

    def run(*arguments: str | Path, timeout: float = 120.0) -> Outcome:
        command = [str(PROGRAM), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, timeout=timeout, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def iron_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a scan of LaFeO3 with its foil, in columns that say what they are."""
    scan = simulated_scan(seed=1)
    path = tmp_path_factory.mktemp("spectra") / "lafeo3.dat"
    table = np.column_stack([scan.energy, scan.i0, scan.it, scan.ir])
    np.savetxt(path, table, header="energy(eV) i0 itrans irefer", comments="# ")
    return path
