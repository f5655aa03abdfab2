"""Files that the commands read."""

from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan


@pytest.fixture(scope="session")
def iron_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a scan of LaFeO3 with its foil, in columns that say what they are."""
    scan = simulated_scan(seed=1)
    path = tmp_path_factory.mktemp("spectra") / "lafeo3.dat"
    table = np.column_stack([scan.energy, scan.i0, scan.it, scan.ir])
    np.savetxt(path, table, header="energy(eV) i0 itrans irefer", comments="# ")
    return path
