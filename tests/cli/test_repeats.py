import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan


@pytest.fixture
def scans(tmp_path):
    paths = []
    for number in range(3):
        scan = simulated_scan(seed=number + 1)
        paths.append(tmp_path / f"scan_{number}.dat")
        table = np.column_stack([scan.energy, scan.i0, scan.it, scan.ir])
        np.savetxt(paths[-1], table, header="energy(eV) i0 itrans irefer", comments="# ")
    return paths


def test_each_repeat_is_one_object(xpdml, scans, tmp_path):
    picture = tmp_path / "interval.png"
    done = xpdml("repeats", *scans, "--element", "Fe", "--edge", "K", "--json", "--plot", picture)
    assert done.status == 0, done.err
    answers = done.objects
    assert [answer["repeats"]["n"] for answer in answers] == [1, 2, 3]
    last = answers[-1]["repeats"]
    assert last["enough"] is True
    assert [each["source"] for each in last["each"]] == [path.name for path in scans]
    state = answers[-1]["descriptors"]["oxidation_state"]
    assert state["low"] < 3.0 < state["high"]
    assert picture.stat().st_size > 5000


def test_people_are_told_whether_there_are_enough(xpdml, scans):
    done = xpdml("repeats", *scans, "--element", "Fe", "--edge", "K")
    assert done.status == 0, done.err
    assert "enough: more repeats would narrow the interval" in done.out
    assert "noise, e" in done.out


def test_scans_that_are_not_repeats_are_refused(xpdml, scans):
    done = xpdml("repeats", scans[0], "--element", "Cu", "--edge", "K")
    assert done.status == 1
    assert "misses the Cu K edge" in done.err
