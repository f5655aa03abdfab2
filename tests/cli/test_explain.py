"""`xpdml explain`: pictures, pages and numbers of what led to the answers."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def nickel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    r = np.arange(0.0, 12.0, 0.02)
    g = np.exp(-(((r - 2.08) / 0.12) ** 2)) + 1.4 * np.exp(-(((r - 2.95) / 0.15) ** 2)) - 0.1
    path = tmp_path_factory.mktemp("curves") / "nio.gr"
    np.savetxt(path, np.column_stack([r, g]))
    return path


def table_rows(page: str) -> list[list[str]]:
    """Return the cells of all tables of a page, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]


def test_numbers_are_those_that_would_be_published(xpdml, iron_file, explainable):
    options = ("--element", "Fe", "--edge", "K", "--models", explainable, "--json")
    (said,) = xpdml("explain", iron_file, *options).objects
    for target, found in said["explanation"]["targets"].items():
        parts = found["base"] + sum(found["regions"].values()) + sum(found["others"].values())
        assert parts == pytest.approx(said["descriptors"][target]["value"], abs=1e-9)
        assert sum(found["importance"].values()) <= 1.0 + 1e-6


def test_a_page_holds_the_picture_and_the_numbers(xpdml, nickel_file, explainable, tmp_path):
    options = ("--composition", "NiO", "--models", explainable, "--format", "html", "--output", "pages")
    done = xpdml("explain", nickel_file, *options)
    assert done.status == 0, done.err
    page = (tmp_path / "pages" / "nio-Ni-explained.html").read_text(encoding="utf-8")
    picture = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    assert ET.fromstring(picture).tag.endswith("svg")  # noqa: S314 - written by the test's own command
    assert "<script" not in page
    assert 'src="' not in page
    headings, *rows = table_rows(page)
    assert headings[0] == "part"
    last = [row[0] for row in rows].index("answer")
    sums = [[float(cell) for cell in row[2:]] for row in rows[: last + 1]]
    assert [row[0] for row in rows[:4]] == ["base", "first shell", "second shell", "further shells"]
    # Six numbers, each rounded to two or three decimals.
    assert np.sum(sums[:-1], axis=0) == pytest.approx(np.array(sums[-1]), abs=0.03)


@pytest.mark.slow
def test_svg_is_the_same_for_the_same_answer(xpdml, iron_file, explainable, tmp_path):
    options = ("--element", "Fe", "--edge", "K", "--models", explainable, "--format", "svg")
    contents = []
    for folder in ("one", "two"):
        assert xpdml("explain", iron_file, *options, "--output", folder).status == 0
        contents.append((tmp_path / folder / "lafeo3-Fe-explained.svg").read_bytes())
    assert contents[0] == contents[1]


def test_what_cannot_be_explained_is_named_and_the_rest_is_drawn_and_listed(
    xpdml, iron_file, explainable, tmp_path
):
    broken = tmp_path / "broken.dat"
    broken.write_text("no numbers here\n")
    options = ("--element", "Fe", "--edge", "K", "--models", explainable)
    done = xpdml("explain", broken, iron_file, *options)
    assert done.status == 1
    assert "broken.dat: expected the answer of one bundle to explain" in done.err
    assert (tmp_path / "lafeo3-Fe-explained.png").read_bytes().startswith(PNG)
    assert not (tmp_path / "broken-Fe-explained.png").exists()
    for name in ("base", "pre-edge", "white line", "edge position", "answer"):
        assert name in done.out
    assert "Oxidation state by the edge position alone" in done.out
