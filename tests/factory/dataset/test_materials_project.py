"""Documents of the Materials Project become files that a data set is built from."""

import gzip
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymatgen.analysis.xas.spectrum import XAS
from pymatgen.core import Structure

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.entries import StructureEntry, read_structures
from bluesky_xpdml.factory.dataset.materials_project import fetch, store
from bluesky_xpdml.factory.dataset.spectra import SpectrumEntry, read_spectra


def oxide(length: float) -> Any:
    return Structure.from_spacegroup(
        "Fm-3m", np.diag([length] * 3), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def spectrum(structure: Any, index: int | None) -> XAS:
    energy = np.arange(8320.0, 8380.0, 0.5)
    mu = 0.5 + np.arctan(energy - 8345.0) / np.pi
    return XAS(energy, mu, structure, "Ni", edge="K", spectrum_type="XANES", absorbing_index=index)


def test_stored_documents_are_read_back_as_spectra_and_structures(tmp_path: Path) -> None:
    structure, other = oxide(4.18), oxide(4.30)
    documents = [
        SimpleNamespace(material_id="mp-2", spectrum=spectrum(structure, None)),
        SimpleNamespace(material_id="mp-1", spectrum=spectrum(structure, 2)),
        SimpleNamespace(task_id="mp-1", spectrum=spectrum(other, 0)),
    ]
    materials = [
        SimpleNamespace(material_id="mp-1", structure=other),
        SimpleNamespace(material_id="mp-3", structure=other),
    ]
    found = store(documents, materials, tmp_path)
    assert (found.n_structures, found.n_spectra, found.n_other_setting) == (3, 2, 1)
    spectra = [entry for entry in read_spectra([tmp_path], ["Ni"]) if isinstance(entry, SpectrumEntry)]
    assert [(entry.id, entry.site, entry.element, entry.source) for entry in spectra] == [
        ("mp-1", 2, "Ni", "materials project"),
        ("mp-2", -1, "Ni", "materials project"),
    ]
    np.testing.assert_array_equal(spectra[0].energy, np.arange(8320.0, 8380.0, 0.5))
    structures = list(read_structures([tmp_path / "structures.jsonl.gz"]))
    assert [entry.id for entry in structures] == ["mp-1", "mp-2", "mp-3"]
    first = structures[0]
    assert isinstance(first, StructureEntry)
    assert json.loads(first.json)["lattice"]["a"] == pytest.approx(4.18)


def test_stored_files_do_not_depend_on_the_order_of_the_documents(tmp_path: Path) -> None:
    structure = oxide(4.18)
    documents = [
        SimpleNamespace(material_id=name, spectrum=spectrum(structure, 0)) for name in ("mp-1", "mp-2")
    ]
    contents = []
    for order, folder in ((documents, tmp_path / "a"), (documents[::-1], tmp_path / "b")):
        store(order, [], folder)
        with gzip.open(folder / "structures.jsonl.gz", "rt") as lines:
            contents.append((lines.read(), (folder / "spectra.json").read_text()))
    assert contents[0] == contents[1]


def test_a_document_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="neither material_id nor task_id"):
        store([SimpleNamespace(spectrum=spectrum(oxide(4.18), 0))], [], tmp_path)


def test_without_a_key_it_is_said_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="MP_API_KEY"):
        fetch(["Fe"], together_with=["O"], key="", output=tmp_path)


@pytest.mark.skipif(find_spec("mp_api") is not None, reason="mp-api is installed: it would be asked")
def test_without_the_package_it_is_said_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"bluesky-xpdml\[materials-project\]"):
        fetch(["Fe"], together_with=["O"], key="a key", output=tmp_path)
