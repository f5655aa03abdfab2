"""The reference lists every key of a settings file, and the example file of the how-to guide is valid."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from bluesky_xpdml.settings import KEYS, resolve_settings
from bluesky_xpdml.vocabulary import Modality

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def settings_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_table", DOCS / "settings_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_has_a_kind_of_value_a_default_and_a_description(settings_table):
    rows = list(settings_table.rows())
    assert [row.key for row in rows] == list(KEYS)
    assert [row.key for row in rows if len(row.description) < 12 or not row.value or not row.default] == []


def test_the_reference_shows_every_key(settings_table):
    text = settings_table.markdown()
    assert [name for name in KEYS if f"| `{name}` |" not in text] == []
    assert "| `xanes.drift` | number | `0.05` |" in text
    assert "| `repeats.within` | a time [s] | none |" in text


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return the example of the how-to guide as a file, beside the files that it names."""
    page = (DOCS / "how-to" / "settings-file.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    poni = 'Detector: Detector\nDetector_config: {"pixel1": 2e-4, "pixel2": 2e-4, "max_shape": [64, 64]}\n'
    poni += "Distance: 0.2\nPoni1: 0.0064\nPoni2: 0.0064\nRot1: 0\nRot2: 0\nRot3: 0\nWavelength: 1.8e-11\n"
    (tmp_path / "detector.poni").write_text(poni, encoding="utf-8")
    file = tmp_path / "xpdml.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_example_file_is_valid(example):
    settings = resolve_settings(example, environment={})
    assert settings.profile == "bmm"
    assert settings.tiled_path == "proposal-1234/xpdml"
    assert settings.pins == {"Fe-xanes": 1}
    assert settings.xanes.energy_offset == 0.8
    assert settings.scattering.calibration is not None
    assert settings.scattering.calibration.distance == 0.2
    assert settings.repeats is not None
    assert settings.repeats.within == 3600.0
    assert settings.pairing is not None
    assert settings.pairing.modality is Modality.XANES_PDF
    assert settings.carried == ("cell.voltage", "pellet.number")


def test_the_example_file_has_every_section(example):
    sections = {name.partition(".")[0] for name in KEYS if "." in name}
    assert sections <= set(tomllib.loads(example.read_text(encoding="utf-8")))
