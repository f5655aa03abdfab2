"""Verdicts agree with those of beamline staff."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.factory.bench.quality import (
    Judged,
    balanced_accuracy,
    cross_validated,
    judge,
    measure_quality,
    tuning_half,
)
from bluesky_xpdml.records import Verdict


@pytest.fixture(scope="module")
def judged(shared_data):
    return judge(shared_data / "experiment" / "quality")


def test_verdicts_agree_on_the_half_that_nothing_was_chosen_on(judged):
    held_out = [item for item in judged if item.half == "held-out"]
    assert len({item.scan_uid for item in held_out}) == 132
    assert balanced_accuracy(held_out) >= 0.9
    for channel in ("transmission", "fluorescence"):
        assert balanced_accuracy([item for item in held_out if item.collection == channel]) >= 0.9


def test_channels_of_one_scan_stay_together(judged):
    halves: dict[str, set[str]] = {}
    for item in judged:
        halves.setdefault(item.scan_uid, set()).add(item.half)
    assert all(len(half) == 1 for half in halves.values())


def test_the_contrast_of_the_edge_alone_agrees_in_cross_validation(judged):
    assert cross_validated(judged) >= 0.9


def test_the_report_counts_every_spectrum_once(shared_data, judged):
    report = measure_quality(shared_data / "experiment" / "quality").as_json()
    counts = [key for key in report["rows"][0] if ": " in key]
    overall = [row for row in report["rows"] if row["collection"] == "all"]
    assert sum(row[key] for row in overall for key in counts) == sum(
        item.staff != "left out" for item in judged
    )
    by_collection = [row for row in report["rows"] if row["collection"] != "all"]
    assert all(sum(row[key] for row in by_collection) == sum(row[key] for row in overall) for key in counts)
    # The score of one collection that its makers meant as "not good" is left out, and still not called good.
    assert "good" not in report["conditions"]["left out"]


def example(staff: str, verdict: Verdict, contrast: float = 9.0, scan_uid: str = "a") -> Judged:
    return Judged(
        scan_uid=scan_uid, collection="c", staff=staff, half="tuning", verdict=verdict, contrast=contrast
    )


def test_balanced_accuracy_is_the_mean_over_good_and_bad():
    judged = [example("good", Verdict.GOOD)] * 3 + [example("good", Verdict.SUSPECT)]
    judged += [
        example("bad", Verdict.FAILED),
        example("bad", Verdict.GOOD),
        example("left out", Verdict.GOOD),
    ]
    assert balanced_accuracy(judged) == pytest.approx((0.75 + 0.5) / 2.0)
    assert balanced_accuracy(judged[:4]) is None


def test_a_contrast_that_says_nothing_is_not_validated():
    rng = np.random.default_rng(3)
    judged = [
        replace(example("good" if index % 2 else "bad", Verdict.GOOD), scan_uid=str(index), contrast=value)
        for index, value in enumerate(rng.uniform(1.0, 10.0, 400))
    ]
    assert cross_validated(judged) == pytest.approx(0.5, abs=0.08)


def test_the_split_is_the_documented_one():
    names = [f"scan-{number:03d}" for number in range(10)]
    order = np.random.default_rng(2026).permutation(10)
    assert tuning_half([*reversed(names), *names]) == {names[index] for index in order[:5]}


def test_a_folder_without_labels_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"expected labels\.csv and bmm_spectra\.npz in"):
        measure_quality(tmp_path)
