"""The card of a joint bundle: what people should know before they trust it."""

from collections.abc import Iterator, Mapping
from typing import Any

from bluesky_xpdml.factory.training.pdf_card import CURVES, coverage_table
from bluesky_xpdml.models.joint import STACKS
from bluesky_xpdml.vocabulary import Modality

LIMITS = """\
- No compound that was measured both ways entered: everything but the edge curve and the interval of the
  oxidation state, which are the XANES bundle's, was learnt and counted on simulation.
- Forests are trained on spectra that were put on the measured axis by their valence, as the XANES bundle's
  are. The figures above are on an axis with one shift for all valences, since the other one holds the label;
  they are therefore those of the forests alone, without the edge.
- How far the forest's valence is trusted beside the edge, {sigma} e, is a choice: it cannot be tuned on
  spectra whose edges are aligned.
- Bond length: {weight:.2f} of what {xanes} answers and {rest:.2f} of what {pdf} does. The former follows bond
  valence sums, and DFT distances are .02 angstrom longer: measured samples may deserve another weight.
- Surroundings are those that {xanes} answers.
- Both measurements must be of the same sample. Where their single answers disagree, by more than 1 e or
  beyond both intervals of the bond length, the verdict says so. Limits of both single bundles hold too."""


def joint_model_card(manifest: Mapping[str, Any]) -> str:
    """Write the card of a joint bundle from its manifest.

    Parameters
    ----------
    manifest
        Manifest as it is stored.

    Returns
    -------
    str
        Markdown.
    """
    training, modality = manifest["training"], Modality(manifest["modality"])
    singles = {part: f"{said['name']}-{said['version']}" for part, said in manifest[STACKS].items()}
    targets = manifest["targets"]
    weight = targets["bond_length"]["weight"]
    lines = [
        f"# {manifest['name']}-{manifest['version']}",
        "",
        "Oxidation state, coordination number, polyhedron and mean metal-oxygen distance of",
        f"{manifest['element']} in oxides, from the {manifest['edge']}-edge XANES and the",
        f"{CURVES[modality.curve]} of one sample.",
        "",
        f"Stands on {singles['xanes']} and {singles['pdf']}. Trained on {training['n_materials']} materials",
        f"of {training['n_formulas']} formulas, the mean spectrum of the simulated sites of each.",
        f"Left out on purpose: {', '.join(training['held_out_formulas']) or 'nothing'}.",
        "",
        "## Simulation, by forests that saw no such formula: both, and each measurement alone",
        "",
        *_scores(manifest["metrics"]),
        "",
        "90 % sets and intervals, calibrated on one half of the formulas and counted on the other:",
        "",
        *coverage_table(manifest["metrics"]["coverage"]),
        "",
        "## Limits",
        "",
        LIMITS.format(
            sigma=targets["oxidation_state"]["forest_sigma"], weight=weight, rest=1.0 - weight, **singles
        ),
        "",
        "## Licence",
        "",
        f"{manifest['licence']['bundle']}; {manifest['licence']['data']}.",
        "",
    ]
    return "\n".join(lines)


def _scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of the joint scores beside the single ones."""
    yield "| target | metric | both | XANES alone | PDF alone | trivial answer | train / test materials |"
    yield "|---|---|---|---|---|---|---|"
    tables = zip(metrics["simulated"], metrics["alone"]["xanes"], metrics["alone"]["pdf"], strict=True)
    for both, xanes, pdf in tables:
        yield (
            f"| {both['target']} | {both['metric']} | {both['value']:.3f} | {xanes['value']:.3f} "
            f"| {pdf['value']:.3f} | {both['majority']:.3f} | {both['n_train']} / {both['n_test']} |"
        )
