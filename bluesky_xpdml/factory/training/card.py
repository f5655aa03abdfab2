"""The card of a bundle: what people should know before they trust it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluesky_xpdml.models.joint import STACKS
from bluesky_xpdml.vocabulary import Descriptor, Modality

CURVES: Mapping[Modality, str] = {
    Modality.PDF: "pair distribution function (all pairs)",
    Modality.DPDF: "metal-differential pair distribution function (pairs with the metal)",
    Modality.DPDF_ANOMALOUS: "difference PDF of two patterns below the metal's K edge (anomalous)",
}
"""The curve of each modality."""
COMMON_CURVE_LIMITS = """\
- For oxides: trained on materials in which all sites of the element have oxygen neighbours only and agree in
  valence and coordination number. For mixed sites the answer is some kind of mean, and none was tested.
- Simulated throughout: harmonic atoms in perfect, DFT-relaxed crystals, whose distances are about .02
  angstrom longer than real ones. Disorder, nanoparticles, texture and impurities are outside.
- The curve's scale is of no account; its distances are: an error of 1 % moves the bond length by 1 %.
- Sets hold within each class on simulated curves; a rare class borrows from the others, and its share is
  uncertain. No measured compound entered: how often sets and intervals hold on measured curves is not known.
- A curve is called novel where its score is above that of 99 % of simulated curves of other formulas.
"""
_JOINT_LIMITS = """\
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
LIMITS: Mapping[Modality, str] = {
    Modality.XANES: """\
- For oxides: trained on sites whose neighbours are all oxygen. Sulfides, metals and molecules are outside.
- The energy axis decides. An axis that is 1 eV off moves the oxidation state by about 0.3; without a foil in
  the reference channel the interval is wider and the verdict `suspect`.
- The oxidation state leans on the edge position; where edge and shape disagree by more than 1 the verdict
  says so. Valences without simulated members (Mn7+) cannot be answered.
- Tetrahedral Fe2+ looks octahedral; coordination numbers near 4 to 5 of Fe2+ are marked.
- The bond length holds for the coordination number published with it.
- The width of intervals is a factor found on few measured compounds, left out one at a time: a tuned number
  until there are more standards.""",
    Modality.PDF: COMMON_CURVE_LIMITS
    + "- All pairs overlap: what the metal does is seen through what the other atoms do.",
    Modality.DPDF: COMMON_CURVE_LIMITS
    + """\
- The pairs of a 3d metal alone cannot be measured at such a q_max below its K edge: this bundle answers
  simulated curves, as the literature does. For a measured anomalous difference take `dpdf_anomalous`.""",
    Modality.DPDF_ANOMALOUS: COMMON_CURVE_LIMITS
    + """\
- Below a K edge of a 3d metal q_max stays under 4 pi / wavelength, 5 (Ti) to 9 (Cu) 1/angstrom: shells
  merge, and metal-metal pairs weigh twice as strongly. Compare the figures with those of `dpdf`.
- Weights are taken at Q = 0; f0 falls with Q and f' does not, which weakens metal-oxygen pairs.
- Noise up to 30 % of the curve was trained for; a noisier difference is refused by the reduction.""",
    **dict.fromkeys(Modality.joint(), _JOINT_LIMITS),
}
"""What limits the bundles of each modality; those of joint ones are a format of the single bundles' names."""

SINGLE_ANSWERS = "Oxidation state, coordination number, polyhedron, mean metal-oxygen distance"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts of a card that differ between modalities, as lines."""

    answers: Sequence[str]
    """What is predicted, and from what."""
    training: Sequence[str]
    scores_title: str
    scores: Iterable[str]
    coverage: Sequence[str]
    limits: str


def model_card(manifest: Mapping[str, Any]) -> str:
    """Write the card of a bundle from its manifest, Markdown."""
    modality = Modality(manifest["modality"])
    if modality in Modality.joint():
        parts = _joint_parts(manifest, modality)
    elif modality in Modality.curves():
        parts = _curve_parts(manifest, modality)
    else:
        parts = _xanes_parts(manifest)
    licence, held_out = manifest["licence"], manifest["training"]["held_out_formulas"]
    lines = [
        f"# {manifest['name']}-{manifest['version']}",
        "",
        *parts.answers,
        "",
        *parts.training,
        f"Left out on purpose: {', '.join(held_out) or 'nothing'}.",
        "",
        f"## {parts.scores_title}",
        "",
        *parts.scores,
        "",
        *parts.coverage,
        "",
        "## Limits",
        "",
        parts.limits,
        "",
        "## Licence",
        "",
        f"{licence['bundle']}; {licence['data']}.",
        "",
    ]
    return "\n".join(lines)


def _xanes_parts(manifest: Mapping[str, Any]) -> _Parts:
    training, metrics = manifest["training"], manifest["metrics"]
    formulas = training["n_formulas"]
    sources = ", ".join(f"{count} {source}" for source, count in training["sources"].items())
    return _Parts(
        answers=(
            f"Oxidation state, coordination number and mean metal-oxygen distance of {manifest['element']}",
            f"in oxides, from the {manifest['edge']}-edge XANES.",
        ),
        training=(
            f"Trained on {training['n_sites']} simulated sites of {formulas} formulas ({sources}),",
            f"broadened and put on the axis of {training['edge_standards']} measured compounds.",
        ),
        scores_title="Simulated spectra, 20 % of the formulas held out, unaligned",
        scores=_score_table(metrics["simulated"], "sites"),
        coverage=(
            "## Measured compounds, each left out of everything that standards enter",
            "",
            *_measured(metrics["measured"]),
        ),
        limits=LIMITS[Modality.XANES],
    )


def _curve_parts(manifest: Mapping[str, Any], modality: Modality) -> _Parts:
    training, metrics = manifest["training"], manifest["metrics"]
    formulas = training["n_formulas"]
    low, high = manifest["input"]["q_max"]
    return _Parts(
        answers=(
            f"{SINGLE_ANSWERS} and surroundings of",
            f"{manifest['element']} in oxides, from the {CURVES[modality]}.",
        ),
        training=(
            f"Trained on curves simulated for {training['n_materials']} materials of {formulas}",
            f"formulas, q_max {low:.1f} to {high:.1f} 1/angstrom.",
        ),
        scores_title="Simulated curves with noise, by forests that saw no such formula",
        scores=_score_table(metrics["simulated"], "materials"),
        coverage=_coverage(metrics["coverage"]),
        limits=LIMITS[modality],
    )


def _joint_parts(manifest: Mapping[str, Any], modality: Modality) -> _Parts:
    training, targets = manifest["training"], manifest["targets"]
    singles = {part: f"{single['name']}-{single['version']}" for part, single in manifest[STACKS].items()}
    xanes, pdf = singles[Modality.XANES], singles[Modality.PDF]
    weight = targets[Descriptor.BOND_LENGTH]["weight"]
    return _Parts(
        answers=(
            "Oxidation state, coordination number, polyhedron and mean metal-oxygen distance of",
            f"{manifest['element']} in oxides, from the {manifest['edge']}-edge XANES and the",
            f"{CURVES[modality.curve]} of one sample.",
        ),
        training=(
            f"Stands on {xanes} and {pdf}. Trained on {training['n_materials']} materials",
            f"of {training['n_formulas']} formulas, the mean spectrum of the simulated sites of each.",
        ),
        scores_title="Simulation, by forests that saw no such formula: both, and each measurement alone",
        scores=_joint_scores(manifest["metrics"]),
        coverage=_coverage(manifest["metrics"]["coverage"]),
        limits=LIMITS[modality].format(
            sigma=targets[Descriptor.OXIDATION_STATE]["forest_sigma"],
            weight=weight,
            rest=1.0 - weight,
            xanes=xanes,
            pdf=pdf,
        ),
    )


def _score_table(rows: Sequence[Mapping[str, Any]], what: str) -> Iterator[str]:
    """Yield the lines of a table of scores; `what` is what was trained and tested on, a plural."""
    yield f"| target | metric | value | trivial answer | train / test {what} |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['target']} | {row['metric']} | {row['value']:.3f} | {row['majority']:.3f} "
            f"| {row['n_train']} / {row['n_test']} |"
        )


def _joint_scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of the joint scores beside the single ones."""
    yield "| target | metric | both | XANES alone | PDF alone | trivial answer | train / test materials |"
    yield "|---|---|---|---|---|---|---|"
    alone = metrics["alone"]
    tables = zip(metrics["simulated"], alone[Modality.XANES], alone[Modality.PDF], strict=True)
    for both, xanes, pdf in tables:
        yield (
            f"| {both['target']} | {both['metric']} | {both['value']:.3f} | {xanes['value']:.3f} "
            f"| {pdf['value']:.3f} | {both['majority']:.3f} | {both['n_train']} / {both['n_test']} |"
        )


def _coverage(coverage: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines on how often sets and intervals hold the truth, by target."""
    lines = [
        "90 % sets and intervals, calibrated on one half of the formulas and counted on the other:",
        "",
        "| target | true values held | mean size | within classes (materials) |",
        "|---|---|---|---|",
    ]
    for target, found in coverage.items():
        size = f"{found['size']:.2f} classes" if "size" in found else f"+- {found['half_width']:.3f}"
        members = found.get("members", {})
        classes = ", ".join(
            f"{name}: {share:.2f} ({members[name]:.0f})" for name, share in found.get("classes", {}).items()
        )
        lines.append(f"| {target} | {found['share']:.3f} | {size} | {classes or '-'} |")
    return lines


def _measured(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "No measured oxide of known valence was available: the edge curve is common to all 3d metals."
        return
    yield "| compound | spectra | axis | valence: true, answer, edge | coordination | distance [angstrom] |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        truth, value, state = row["truth"], row["value"], Descriptor.OXIDATION_STATE
        axis = "foil" if row["calibrated"] else "unknown"
        number = _pair(truth, value, Descriptor.COORDINATION_NUMBER, 2)
        yield (
            f"| {row['compound']} | {row['n_spectra']} | {axis} "
            f"| {truth[state]:.2f}, {value[state]:.2f}, {row['edge_curve']:.2f} "
            f"| {number} | {_pair(truth, value, Descriptor.BOND_LENGTH, 3)} |"
        )


def _pair(truth: Mapping[str, float], value: Mapping[str, float], name: str, digits: int) -> str:
    known = f"{truth[name]:.{digits}f}" if name in truth else "?"
    return f"{known}, {value[name]:.{digits}f}"
