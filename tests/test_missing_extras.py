"""Without the packages of an extra, a part of the package says which extra to install; the rest works."""

import subprocess
import sys
from importlib import import_module

import pytest

from bluesky_xpdml.errors import MissingExtraError, needs_extra

HIDE = """
import sys
from importlib.abc import MetaPathFinder

class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
"""
EXTRAS = [
    "bluesky_adaptive",
    "bluesky_queueserver_api",
    "databroker",
    "distributed",
    "fabio",
    "joblib",
    "matplotlib",
    "ophyd",
]
EXTRAS += ["pyFAI", "pymatgen", "sklearn", "tifffile", "threadpoolctl", "xraylib"]
ANSWER = """
import numpy as np
from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback
from bluesky_xpdml.sources.replay import scan_documents
from bluesky_xpdml.records import AbsorptionScan

x = np.arange(-150.0, 300.0, 0.5)
mu = 0.5 + np.arctan((x - 14.0) / 1.2) / np.pi + 0.6 * np.exp(-(((x - 19.0) / 3.0) ** 2))
scan = AbsorptionScan(energy=7110.75 + x, mu=mu, element="Fe", edge="K")
found = []
publisher = CallbackPublisher(lambda *each: found.append(each))
with XpdmlCallback(publisher, store=BundleStore.default()) as callback:
    for name, document in scan_documents(scan):
        callback(name, document)
    assert callback.drain(120)
print(round(found[0][1]["descriptors"]["oxidation_state"]["value"]))
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = HIDE.format(packages=EXTRAS) + code
    return subprocess.run(
        [sys.executable, "-c", hidden, *arguments], capture_output=True, text=True, timeout=240, check=False
    )


def test_an_absorption_run_is_answered_by_the_core_alone() -> None:
    ended = run(ANSWER)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "3"


def test_the_demonstration_without_its_extra_says_which_to_install() -> None:
    ended = run("from bluesky_xpdml.cli import main\nmain()", "demo")
    assert ended.returncode == 1
    assert "pip install 'bluesky-xpdml[demo]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_import_that_fails_names_package_and_extra() -> None:
    expected = pytest.raises(MissingExtraError, match=r"expected absent.*bluesky-xpdml\[scattering\]")
    with expected, needs_extra("scattering"):
        import_module("absent")
