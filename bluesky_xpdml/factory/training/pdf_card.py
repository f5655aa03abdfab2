"""The card of a PDF bundle: what people should know before they trust it."""

from collections.abc import Iterator, Mapping
from typing import Any

from bluesky_xpdml.factory.training.card import score_table
from bluesky_xpdml.vocabulary import Modality

CURVES: Mapping[Modality, str] = {
    Modality.PDF: "pair distribution function (all pairs)",
    Modality.DPDF: "metal-differential pair distribution function (pairs with the metal)",
    Modality.DPDF_ANOMALOUS: "difference PDF of two patterns below the metal's K edge (anomalous)",
}
"""What each modality is read from."""
COMMON_LIMITS = """\
- For oxides: trained on materials in which all sites of the element have oxygen neighbours only and agree in
  valence and coordination number. For mixed sites the answer is some kind of mean, and none was tested.
- Simulated throughout: harmonic atoms in perfect, DFT-relaxed crystals, whose distances are about .02
  angstrom longer than real ones. Disorder, nanoparticles, texture and impurities are outside.
- The curve's scale is of no account; its distances are: an error of 1 % moves the bond length by 1 %.
- Sets hold within each class on simulated curves; a rare class borrows from the others, and its share is
  uncertain. No measured compound entered: how often sets and intervals hold on measured curves is not known.
- A curve is called novel where its score is above that of 99 % of simulated curves of other formulas."""
LIMITS: Mapping[Modality, str] = {
    Modality.PDF: "- All pairs overlap: what the metal does is seen through what the other atoms do.",
    Modality.DPDF: """\
- The pairs of a 3d metal alone cannot be measured at such a q_max below its K edge: this bundle answers
  simulated curves, as the literature does. For a measured anomalous difference take `dpdf_anomalous`.""",
    Modality.DPDF_ANOMALOUS: """\
- Below a K edge of a 3d metal q_max stays under 4 pi / wavelength, 5 (Ti) to 9 (Cu) 1/angstrom: shells
  merge, and metal-metal pairs weigh twice as strongly. Compare the figures with those of `dpdf`.
- Weights are taken at Q = 0; f0 falls with Q and f' does not, which weakens metal-oxygen pairs.
- Noise up to 30 % of the curve was trained for; a noisier difference is refused by the reduction.""",
}
"""What else limits each modality."""


def pdf_model_card(manifest: Mapping[str, Any]) -> str:
    """Write the card of a PDF bundle from its manifest.

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
    low, high = manifest["input"]["q_max"]
    lines = [
        f"# {manifest['name']}-{manifest['version']}",
        "",
        "Oxidation state, coordination number, polyhedron, mean metal-oxygen distance and surroundings of",
        f"{manifest['element']} in oxides, from the {CURVES[modality]}.",
        "",
        f"Trained on curves simulated for {training['n_materials']} materials of {training['n_formulas']}",
        f"formulas, q_max {low:.1f} to {high:.1f} 1/angstrom.",
        f"Left out on purpose: {', '.join(training['held_out_formulas']) or 'nothing'}.",
        "",
        "## Simulated curves with noise, by forests that saw no such formula",
        "",
        *score_table(manifest["metrics"]["simulated"], "materials"),
        "",
        "90 % sets and intervals, calibrated on one half of the formulas and counted on the other:",
        "",
        *coverage_table(manifest["metrics"]["coverage"]),
        "",
        "## Limits",
        "",
        COMMON_LIMITS,
        LIMITS[modality],
        "",
        "## Licence",
        "",
        f"{manifest['licence']['bundle']}; {manifest['licence']['data']}.",
        "",
    ]
    return "\n".join(lines)


def coverage_table(coverage: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of what sets and intervals hold.

    Parameters
    ----------
    coverage
        By target, as the manifest holds it.
    """
    yield "| target | true values held | mean size | within classes (materials) |"
    yield "|---|---|---|---|"
    for target, found in coverage.items():
        size = f"{found['size']:.2f} classes" if "size" in found else f"+- {found['half_width']:.3f}"
        members = found.get("members", {})
        classes = ", ".join(
            f"{name}: {share:.2f} ({members[name]:.0f})" for name, share in found.get("classes", {}).items()
        )
        yield f"| {target} | {found['share']:.3f} | {size} | {classes or '-'} |"
