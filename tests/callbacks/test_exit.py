"""Sessions that end at once: exit status 0, and nothing on the way down."""

import subprocess
import sys

import pytest

SCRIPT = """
from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback

callback = XpdmlCallback(CallbackPublisher(lambda name, document: None), store=BundleStore.default())
"""
START = 'callback("start", {"uid": "a", "time": 0.0, "plan_name": "xafs", "element": "Fe", "edge": "K"})\n'


@pytest.mark.parametrize("ending", ["", START, "raise SystemExit(3)", START + "callback.close(timeout=60)"])
def test_a_script_that_subscribes_and_ends_at_once_keeps_its_exit_status(ending: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT + ending], capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == (3 if "SystemExit" in ending else 0), ended.stderr
    assert "Traceback" not in ended.stderr
