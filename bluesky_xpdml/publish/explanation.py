"""What a derived run says of the reasons of its answer: arrays for a stream, sums for the start document."""

from typing import Any

from bluesky_xpdml.explanation_records import Explanation
from bluesky_xpdml.records import FloatArray


def explanation_columns(explanation: Explanation) -> dict[str, tuple[FloatArray, str]]:
    """Return the columns of the stream `explanation` with their units, all of one length.

    Parameters
    ----------
    explanation
        Of a prediction.
    """
    columns = {"grid": (explanation.grid, explanation.unit)}
    for target, attribution in explanation.attributions.items():
        columns[f"attribution_{target}"] = (attribution.features, attribution.unit)
        columns[f"importance_{target}"] = (attribution.importance, "1")
        columns[f"permutation_{target}"] = (attribution.permutation, "1")
    return columns


def explanation_summary(explanation: Explanation) -> dict[str, Any]:
    """Return what the start document says: by descriptor, what adds up to the answer; and the regions.

    Parameters
    ----------
    explanation
        Of a prediction.
    """
    return {
        "unit": explanation.unit,
        "features": explanation.features,
        "edge_share": explanation.edge_share,
        "regions": {region.name: [region.low, region.high] for region in explanation.regions},
        "targets": {
            target: {
                "unit": attribution.unit,
                "base": attribution.base,
                "regions": {region.name: region.attribution[target] for region in explanation.regions},
                "importance": {region.name: region.importance[target] for region in explanation.regions},
                "others": attribution.others,
                "answer": attribution.answer,
            }
            for target, attribution in explanation.attributions.items()
        },
    }
