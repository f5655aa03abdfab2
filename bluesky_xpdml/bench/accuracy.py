"""Accuracy on simulated spectra, beside the answer that is always the commonest one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.bench.report import Report
from bluesky_xpdml.simulation.library import load_site_spectra
from bluesky_xpdml.training.benchmark import TEST_SHARE, Score, Split, score_split
from bluesky_xpdml.training.xanes import XanesRecipe, usable_sites


def measure_accuracy(
    simulation: Path,
    elements: Sequence[str],
    *,
    seeds: Sequence[int],
    splits: Sequence[Split],
    progress: Callable[[str, int, int], None],
) -> Report:
    """Train and score forests on several splits of the simulated sites.

    Parameters
    ----------
    simulation
        Folder of simulated spectra.
    elements
        Chemical symbols.
    seeds
        One split, augmentation and forest each.
    splits
        `formula`, `record`.
    progress
        Called with what is done, how many of it, and of how many.
    """
    recipe = replace(XanesRecipe(), most_sites=10**6)
    rows: list[dict[str, Any]] = []
    total = len(elements) * len(splits) * len(seeds)
    done = 0
    for element in elements:
        sites = usable_sites(load_site_spectra(simulation, element), recipe)
        for split in splits:
            scores = []
            for seed in seeds:
                scores.append(score_split(sites, recipe, split, seed))
                done += 1
                progress("splits", done, total)
            rows += [_row(element, split, same) for same in zip(*scores, strict=True)]
    rows += [row for split in splits for row in _means(rows, split)]
    return Report(
        what="accuracy of XANES forests on simulated spectra",
        conditions={
            "seeds": list(seeds),
            "test share": TEST_SHARE,
            "formula split": "every reduced formula on one side",
            "record split": "sites drawn at random: shares formulas, for comparison with literature only",
            "spectra": "unaligned, at the width of the simulation",
            "majority": "the same metric of the commonest class, or of the mean",
        },
        rows=rows,
    )


def _row(element: str, split: Split, scores: tuple[Score, ...]) -> dict[str, Any]:
    values = [score.value for score in scores]
    return {
        "element": element,
        "modality": "xanes",
        "target": scores[0].target,
        "split": split,
        "metric": scores[0].metric,
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "n_train": round(np.mean([score.n_train for score in scores])),
        "n_test": round(np.mean([score.n_test for score in scores])),
        "majority": float(np.mean([score.majority for score in scores])),
    }


def _means(rows: Sequence[dict[str, Any]], split: Split) -> list[dict[str, Any]]:
    """Average each metric over the elements."""
    chosen = [row for row in rows if row["split"] == split]
    result = []
    for target, metric in dict.fromkeys((row["target"], row["metric"]) for row in chosen):
        same = [row for row in chosen if (row["target"], row["metric"]) == (target, metric)]
        averages = {key: float(np.mean([row[key] for row in same])) for key in ("mean", "majority")}
        sums = {key: sum(row[key] for row in same) for key in ("n_train", "n_test")}
        result.append({**same[0], "element": "mean", "sd": None, **averages, **sums})
    return result
