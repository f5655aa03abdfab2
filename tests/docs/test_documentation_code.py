"""The code in the documentation runs."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> str:
    return "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))


REPORT = """
import json
print(json.dumps({"raw_uid": raw_uid, "start": start, "energy": [float(energy[0]), float(energy[-1])]}))
"""


def test_first_tutorial_leads_to_a_prediction() -> None:
    # In a process of its own: one process can hold the key of one embedded Tiled server only.
    code = code_of(DOCS / "tutorials" / "from-run-engine-to-prediction.md") + REPORT
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout.splitlines()[-1])
    start, answers = names["start"], names["start"]["descriptors"]
    assert "LaFeO3 Fe" in done.stdout
    assert start["raw_uid"] == names["raw_uid"]
    assert start["quality"]["verdict"] in {"good", "suspect"}, start["quality"]
    assert 2.5 < answers["oxidation_state"]["value"] < 3.5
    assert answers["bond_length"]["low"] < answers["bond_length"]["high"]
    assert names["energy"][0] < 7000.0
    assert names["energy"][1] > 7400.0


def test_an_experiment_steers_itself_as_the_page_says() -> None:
    code = code_of(DOCS / "how-to" / "steer-an-experiment.md")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "0 answers from before, 0 failures"
    assert "8 measurements, level" in done.stdout
    assert "8 answers from before, 0 failures" in done.stdout
    assert sum("'temperature'" in line for line in lines) == 8


@pytest.mark.parametrize("page", sorted(DOCS.glob("*/*.md")), ids=lambda page: page.stem)
def test_names_that_the_pages_import_exist(page: Path) -> None:
    for node in ast.walk(ast.parse(code_of(page))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{page.name} imports them from {node.module}"
