"""The card of a PDF bundle: what people should know before they trust it."""

from collections.abc import Mapping
from typing import Any

from bluesky_xpdml.features.pdf import PdfModality
from bluesky_xpdml.training.card import score_table

CURVES: Mapping[PdfModality, str] = {
    PdfModality.PDF: "pair distribution function (all pairs)",
    PdfModality.DPDF: "metal-differential pair distribution function (pairs with the metal)",
    PdfModality.DPDF_ANOMALOUS: "difference PDF of two patterns below the metal's K edge (anomalous)",
}
"""What each modality is read from."""
COMMON_LIMITS = """\
- For oxides: trained on materials in which all sites of the element have oxygen neighbours only and agree in
  valence and coordination number. For mixed sites the answer is some kind of mean, and none was tested.
- Simulated throughout: harmonic atoms in perfect, DFT-relaxed crystals, whose distances are about .02
  angstrom longer than real ones. Disorder, nanoparticles, texture and impurities are outside.
- The curve's scale is of no account; its distances are: an error of 1 % moves the bond length by 1 %.
- Intervals hold on average over materials. Those of rare valences miss more often, as the coverage shows."""
LIMITS: Mapping[PdfModality, str] = {
    PdfModality.PDF: "- All pairs overlap: what the metal does is seen through what the other atoms do.",
    PdfModality.DPDF: """\
- The pairs of a 3d metal alone cannot be measured at such a q_max below its K edge: this bundle answers
  simulated curves, as the literature does. For a measured anomalous difference take `dpdf_anomalous`.""",
    PdfModality.DPDF_ANOMALOUS: """\
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
    training, modality = manifest["training"], PdfModality(manifest["modality"])
    low, high = manifest["input"]["q_max"]
    coverage = manifest["metrics"]["interval_coverage"]
    lines = [
        f"# {manifest['name']}-{manifest['version']}",
        "",
        f"Oxidation state, coordination number and mean metal-oxygen distance of {manifest['element']}",
        f"in oxides, from the {CURVES[modality]}.",
        "",
        f"Trained on curves simulated for {training['n_materials']} materials of {training['n_formulas']}",
        f"formulas, q_max {low:.1f} to {high:.1f} 1/angstrom.",
        f"Left out on purpose: {', '.join(training['held_out_formulas']) or 'nothing'}.",
        "",
        "## Simulated curves with noise, by forests that saw no such formula",
        "",
        *score_table(manifest["metrics"]["simulated"], "materials"),
        "",
        "90 % intervals of the oxidation state hold, by true valence: "
        + ", ".join(f"{valence}: {share:.2f}" for valence, share in coverage.items())
        + ".",
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
