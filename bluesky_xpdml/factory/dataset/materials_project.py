"""Structures and spectra of the Materials Project, through its client `mp-api` and with one's own key.

They are stored as files that a data set is then built from, so that the same data set can be built again.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.tables import STRUCTURES_FILE

SPECTRA_FILE = "spectra.json"
"""Name of the file of spectra."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How much was stored."""

    n_structures: int
    n_spectra: int
    n_other_setting: int
    """Spectra left out: their sites are numbered in another setting of the structure."""


def fetch(elements: Sequence[str], *, together_with: Sequence[str], key: str, output: Path) -> Fetched:
    """Download all K-edge XANES of some elements, and all structures that hold them."""
    if not key:
        msg = "the Materials Project needs a key of your own: set MP_API_KEY, or give it with --key"
        raise TrainingError(msg)
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        msg = "the Materials Project needs the package mp-api: install bluesky-xpdml[materials-project]"
        raise TrainingError(msg) from error
    spectra: list[Any] = []
    materials: list[Any] = []
    with MPRester(key) as client:
        for element in elements:
            held = [element, *together_with]
            spectra += client.materials.xas.search(
                edge="K", spectrum_type="XANES", absorbing_element=element, elements=held
            )
            materials += client.materials.summary.search(elements=held, fields=["material_id", "structure"])
    return store(spectra, materials, output)


def store(spectra: Iterable[Any], materials: Iterable[Any], output: Path) -> Fetched:
    """Store documents of the Materials Project."""
    structures: dict[str, Any] = {}
    documents: list[dict[str, Any]] = []
    other = 0
    for document in spectra:
        identifier, spectrum = _identifier(document), document.spectrum
        if structures.setdefault(identifier, spectrum.structure) != spectrum.structure:
            other += 1
            continue
        documents.append({"material_id": identifier, **_plain(spectrum)})
    for document in materials:
        structures.setdefault(_identifier(document), document.structure)
    output.mkdir(parents=True, exist_ok=True)
    documents.sort(key=lambda entry: (entry["material_id"], entry["absorbing_element"]))
    (output / SPECTRA_FILE).write_text(json.dumps(documents), encoding="utf-8")
    with gzip.open(output / STRUCTURES_FILE, "wt", encoding="utf-8") as lines:
        for identifier in sorted(structures):
            entry = {"id": identifier, "structure": structures[identifier].as_dict()}
            lines.write(json.dumps(entry) + "\n")
    return Fetched(n_structures=len(structures), n_spectra=len(documents), n_other_setting=other)


def _identifier(document: Any) -> str:
    """Return what the material is called, in documents of older and newer clients."""
    found = getattr(document, "material_id", None) or getattr(document, "task_id", None)
    if not found:
        msg = "a document of the Materials Project has neither material_id nor task_id: expected one"
        raise TrainingError(msg)
    # Newer identifiers print in letters; `string` is the number that the web pages show.
    return str(getattr(found, "string", found))


def _plain(spectrum: Any) -> dict[str, Any]:
    return {
        "absorbing_element": str(spectrum.absorbing_element),
        "absorbing_index": spectrum.absorbing_index,
        "edge": str(spectrum.edge),
        "spectrum_type": str(spectrum.spectrum_type),
        "spectrum": {"x": [float(x) for x in spectrum.x], "y": [float(y) for y in spectrum.y]},
    }
