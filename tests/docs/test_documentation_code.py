"""The code in the documentation runs."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> str:
    return "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))


def test_first_tutorial_leads_to_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    page = DOCS / "tutorials" / "from-run-engine-to-prediction.md"
    exec(compile(code_of(page), str(page), "exec"), names)
    assert names["start"]["raw_uid"] == names["raw_uid"]
    assert names["start"]["quality"]["verdict"] in {"good", "suspect"}, names["start"]["quality"]
    answers = names["start"]["descriptors"]
    assert 2.5 < answers["oxidation_state"]["value"] < 3.5
    assert answers["bond_length"]["low"] < answers["bond_length"]["high"]
    assert names["energy"][0] < 7000.0
    assert names["energy"][-1] > 7400.0
    assert "LaFeO3 Fe" in capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(DOCS.glob("*/*.md")), ids=lambda page: page.stem)
def test_names_that_the_pages_import_exist(page: Path) -> None:
    for node in ast.walk(ast.parse(code_of(page))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{page.name} imports them from {node.module}"
