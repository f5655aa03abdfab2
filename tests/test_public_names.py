"""The public names are what is visible, and cost nothing until they are used."""

import subprocess
import sys

import pytest

import bluesky_xpdml


def test_all_is_what_is_visible():
    assert sorted(dir(bluesky_xpdml)) == sorted(bluesky_xpdml.__all__)


@pytest.mark.parametrize("name", bluesky_xpdml.__all__)
def test_every_public_name_is_documented(name):
    value = getattr(bluesky_xpdml, name)
    assert isinstance(value, str) or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bluesky_xpdml.nothing


def test_the_callback_loads_no_tiled_before_it_connects():
    code = "import sys, bluesky_xpdml; bluesky_xpdml.XpdmlCallback; print('tiled' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
