"""An explanation is drawn with all parts that add up to the answers."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.figures.explanation import (
    draw_explanation,
    importance_rows,
    part_rows,
    parts_of,
    sentence_of,
    write_page,
)
from bluesky_xpdml.models.explain import with_explanation
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import Explanation, Prediction
from bluesky_xpdml.reduction.xanes import reduce_xanes
from bluesky_xpdml.vocabulary import Descriptor


@pytest.fixture(scope="module")
def explained() -> Prediction:
    store = BundleStore.default()
    xanes = replace(reduce_xanes(simulated_scan(seed=1)), source="scan <1>")
    return with_explanation(predict_xanes(xanes, store), store)


@pytest.fixture(scope="module")
def explanation(explained: Prediction) -> Explanation:
    assert explained.explanation is not None
    return explained.explanation


def test_the_parts_between_base_and_answer_add_up(explanation: Explanation) -> None:
    for target in Descriptor.main():
        parts = list(parts_of(explanation, target).values())
        assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=1e-9)


def test_tables_have_a_column_per_descriptor_and_a_row_per_part(explanation: Explanation) -> None:
    rows = part_rows(explanation)
    assert rows[0] == ["part", "range [eV]", *(name.heading for name in Descriptor.main())]
    assert [rows[1][0], rows[-1][0]] == ["base", "answer"]
    assert all(len(row) == len(rows[0]) for row in rows)
    shares = importance_rows(explanation)
    assert shares[0] == ["region", *(name.label for name in Descriptor.main())]
    assert [row[0] for row in shares[1:]] == [region.name for region in explanation.regions]


def test_the_sentence_says_how_far_the_edge_leads(explained: Prediction, explanation: Explanation) -> None:
    share = replace(explained, explanation=replace(explanation, edge_share=0.8))
    assert sentence_of(share).endswith("the answer follows the edge position by 80 %.")
    said = {"edge_curve_oxidation_state": 3.0, "forest_oxidation_state": 2.0}
    outside = replace(explained, explanation=replace(explanation, edge_share=None), diagnostics=said)
    assert sentence_of(outside).endswith("the answer is no mixture of both.")
    assert sentence_of(replace(explained, diagnostics={})) == ""


def test_the_page_needs_no_other_file_and_repeats_no_markup(
    explained: Prediction, explanation: Explanation, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    write_page(explained, explanation, page)
    text = page.read_text(encoding="utf-8")
    assert "scan &lt;1&gt;" in text
    assert "scan <1>" not in text
    assert "<svg" in text
    assert text.count("<table>") == 2
    for name in Descriptor.main():
        assert f"<th>{name.heading}</th>" in text


def test_without_explanation_or_curve_nothing_is_drawn(explained: Prediction) -> None:
    with pytest.raises(ValueError, match="explain it first"):
        draw_explanation(replace(explained, explanation=None), io.StringIO(), "svg")
    with pytest.raises(ValueError, match="read it from its file again"):
        draw_explanation(replace(explained, xanes=None), io.StringIO(), "svg")
