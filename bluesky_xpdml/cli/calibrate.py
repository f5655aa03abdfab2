"""`xpdml calibrate`: a beamline's own standards move the edge curves."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_console
from bluesky_xpdml.models.edge_calibration import EdgeCalibration
from bluesky_xpdml.models.store import SHIPPED
from bluesky_xpdml.vocabulary import Descriptor


def calibrate(
    standards: Annotated[
        Path,
        typer.Argument(help="Folder with labels.csv and the spectra of compounds of known oxidation state."),
    ],
    *,
    output: Annotated[Path, typer.Option(help="File for the calibration.")] = Path("xpdml-calibration.json"),
    element: Annotated[
        list[str] | None,
        typer.Option(help="Only this element; repeatable, all that have standards by default."),
    ] = None,
    models: Annotated[Path, typer.Option(help="Folder of the bundles.")] = SHIPPED,
    json: bool = JSON,
) -> None:
    """Fit the edge curves of a beamline on its own standards, and test each standard against the others."""
    from bluesky_xpdml.models.edge_calibration import write_calibrations
    from bluesky_xpdml.models.standards import calibrate_edges
    from bluesky_xpdml.models.store import BundleStore
    from bluesky_xpdml.sources.standards import load_standards

    known = load_standards(standards)
    for file, reason in known.refused.items():
        progress_console.print(f"left out {file}: {reason}")
    there = {item.element for item in known.spectra if item.observation.calibrated}
    store = BundleStore(models)
    found = [
        calibrate_edges(store.find(each, "K", "xanes"), known.spectra) for each in sorted(element or there)
    ]
    if not found:
        raise typer.BadParameter(f"no standard in {standards} is on the foil's scale")
    write_calibrations(output, found)
    progress_console.print(f"written: {output}; name it in xpdml.toml, as file under [calibration]")
    if json:
        print_json({"file": str(output), "elements": [asdict(one) for one in found]})
    else:
        _show(found)


def _show(found: list[EdgeCalibration]) -> None:
    standards = [(one.element, each) for one in found for each in one.standards]
    print_table(
        "standards: oxidation state by the bundle's curve, and by the curve of the other standards",
        [
            "element",
            "compound",
            Descriptor.OXIDATION_STATE.label,
            "edge [eV]",
            "residual [eV]",
            "before",
            "by the others",
        ],
        [
            [
                symbol,
                each.compound,
                f"{each.valence:.2f}",
                f"{each.edge:.2f}",
                f"{each.residual:+.2f}",
                f"{each.state_before:.2f}",
                f"{each.state_left_out:.2f}",
            ]
            for symbol, each in standards
        ],
    )
    print_table(
        "curves",
        ["element", "bundle", "offset [eV]", "slope [eV/e]", "sigma [eV]"],
        [
            [one.element, one.bundle, f"{one.offset:+.2f}", f"{one.slope:+.2f}", f"{one.sigma:.2f}"]
            for one in found
        ],
    )
