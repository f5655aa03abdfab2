"""The code in the documentation runs; where it needs a server or a beamline, what it imports exists."""

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


@pytest.mark.usefixtures("further_servers")
def test_first_tutorial_leads_to_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(code_of(DOCS / "tutorials" / "from-run-engine-to-prediction.md"), names)  # noqa: S102 - the page
    start, answers = names["start"], names["start"]["descriptors"]
    assert "LaFeO3 Fe" in capsys.readouterr().out
    assert start["raw_uid"] == names["raw_uid"]
    assert start["quality"]["verdict"] in {"good", "suspect"}, start["quality"]
    assert 2.5 < answers["oxidation_state"]["value"] < 3.5
    assert answers["bond_length"]["low"] < answers["bond_length"]["high"]
    assert names["energy"][0] < 7000.0
    assert names["energy"][-1] > 7400.0


@pytest.mark.usefixtures("further_servers")
def test_an_experiment_steers_itself_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(code_of(DOCS / "how-to" / "steer-an-experiment.md"), {})  # noqa: S102 - the page's own code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 answers from before, 0 failures"
    assert any(line.startswith("3 measurements, level") for line in lines)
    assert "3 answers from before, 0 failures" in lines
    assert sum("'temperature'" in line for line in lines) == 3


NEED_NOTHING = (
    "how-to/add-a-profile",
    "how-to/calibrate-the-axis",
    "how-to/choose-the-next-modality",
    "how-to/explain-a-prediction",
    "how-to/measure-until",
    "how-to/plan-through-the-queue",
    "how-to/repeats",
    "how-to/run-a-night-shift",
    "reference/quality",
)
"""Pages whose code needs neither a server nor a beamline."""


@pytest.mark.parametrize("page", NEED_NOTHING)
def test_the_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = code_of(DOCS / f"{page}.md")
    assert code
    exec(code, {})  # noqa: S102 - the page's own code


ROOT = DOCS.parent
CURRENT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", DOCS / "index.md"]
CURRENT += [page for page in DOCS.glob("*/*.md") if page.parent.name not in {"decisions", "_generated"}]


@pytest.mark.parametrize("page", sorted(CURRENT), ids=lambda page: page.stem)
def test_dotted_names_and_paths_on_the_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    dotted = {name.rstrip(".") for name in re.findall(r"`{1,2}(bluesky_xpdml(?:\.\w+)+)", text)}
    assert {name for name in dotted if not _is_there(name)} == set()
    paths = re.findall(r"`((?:bluesky_xpdml|benchmarks|tests|callbacks)/[\w/.]+)`", text)
    new = {"bluesky_xpdml/documents/emission.py", "bluesky_xpdml/reduction/emission.py"}
    new |= {"bluesky_xpdml/models/emission.py"}
    assert {path for path in paths if path not in new and not (ROOT / path).exists()} == set()


def _is_there(dotted: str) -> bool:
    names = dotted.split(".")
    found: object = importlib.import_module(names[0])
    for n, name in enumerate(names[1:], start=2):
        if hasattr(found, name):
            found = getattr(found, name)
            continue
        try:
            found = importlib.import_module(".".join(names[:n]))
        except ModuleNotFoundError:
            return False
    return True


@pytest.mark.parametrize("page", sorted(DOCS.glob("*/*.md")), ids=lambda page: page.stem)
def test_names_that_the_pages_import_exist(page: Path) -> None:
    for node in ast.walk(ast.parse(code_of(page))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{page.name} imports them from {node.module}"
