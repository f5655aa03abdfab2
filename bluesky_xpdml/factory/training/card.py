"""The card of a bundle: what people should know before they trust it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LIMITS = """\
- For oxides: trained on sites whose neighbours are all oxygen. Sulfides, metals and molecules are outside.
- The energy axis decides. An axis that is 1 eV off moves the oxidation state by about 0.3; without a foil in
  the reference channel the interval is wider and the verdict `suspect`.
- The oxidation state leans on the edge position; where edge and shape disagree by more than 1 the verdict
  says so. Valences without simulated members (Mn7+) cannot be answered.
- Tetrahedral Fe2+ looks octahedral; coordination numbers near 4 to 5 of Fe2+ are marked.
- The bond length holds for the coordination number published with it.
- The width of intervals is a factor found on few measured compounds, left out one at a time: a tuned number
  until there are more standards."""


def model_card(manifest: Mapping[str, Any]) -> str:
    """Write the card of a bundle from its manifest.

    Parameters
    ----------
    manifest
        Manifest as it is stored.

    Returns
    -------
    str
        Markdown.
    """
    training = manifest["training"]
    sources = ", ".join(f"{count} {source}" for source, count in training["sources"].items())
    lines = [
        f"# {manifest['name']}-{manifest['version']}",
        "",
        f"Oxidation state, coordination number and mean metal-oxygen distance of {manifest['element']}",
        f"in oxides, from the {manifest['edge']}-edge XANES.",
        "",
        f"Trained on {training['n_sites']} simulated sites of {training['n_formulas']} formulas ({sources}),",
        f"broadened and put on the axis of {training['edge_standards']} measured compounds.",
        f"Left out on purpose: {', '.join(training['held_out_formulas']) or 'nothing'}.",
        "",
        "## Simulated spectra, 20 % of the formulas held out, unaligned",
        "",
        *score_table(manifest["metrics"]["simulated"], "sites"),
        "",
        "## Measured compounds, each left out of everything that standards enter",
        "",
        *_measured(manifest["metrics"]["measured"]),
        "",
        "## Limits",
        "",
        LIMITS,
        "",
        "## Licence",
        "",
        f"{manifest['licence']['bundle']}; {manifest['licence']['data']}.",
        "",
    ]
    return "\n".join(lines)


def score_table(rows: Sequence[Mapping[str, Any]], what: str) -> Iterator[str]:
    """Yield the lines of a table of scores.

    Parameters
    ----------
    rows
        Scores as the manifest holds them.
    what
        What was trained and tested on, a plural.
    """
    yield f"| target | metric | value | trivial answer | train / test {what} |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['target']} | {row['metric']} | {row['value']:.3f} | {row['majority']:.3f} "
            f"| {row['n_train']} / {row['n_test']} |"
        )


def _measured(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "No measured oxide of known valence was available: the edge curve is common to all 3d metals."
        return
    yield "| compound | spectra | axis | valence: true, answer, edge | coordination | distance [angstrom] |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        truth, value = row["truth"], row["value"]
        axis = "foil" if row["calibrated"] else "unknown"
        yield (
            f"| {row['compound']} | {row['n_spectra']} | {axis} "
            f"| {truth['oxidation_state']:.2f}, {value['oxidation_state']:.2f}, {row['edge_curve']:.2f} "
            f"| {_pair(truth, value, 'coordination_number', 2)} | {_pair(truth, value, 'bond_length', 3)} |"
        )


def _pair(truth: Mapping[str, float], value: Mapping[str, float], name: str, digits: int) -> str:
    known = f"{truth[name]:.{digits}f}" if name in truth else "?"
    return f"{known}, {value[name]:.{digits}f}"
