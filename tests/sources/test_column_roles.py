"""Roles of columns: by their labels, or as the caller states them."""

import pytest

from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.sources.files import roles_of_caller, roles_of_labels


@pytest.mark.parametrize(
    ("labels", "element", "roles"),
    [
        ("energy i0 itrans irefer", "Cr", {"energy": [0], "i0": [1], "it": [2], "ir": [3]}),
        ("energy itrans i0", "Fe", {"energy": [0], "it": [1], "i0": [2]}),
        ("energy Io It Iref If", "Mn", {"energy": [0], "i0": [1], "it": [2], "ir": [3], "if": [4]}),
        ("E xmu(trans)", "Mn", {"energy": [0], "mu": [1]}),
        ("energy_eV mu", "", {"energy": [0], "mu": [1]}),
        ("Energy Energy_readback T I0 IT", "Fe", {"energy": [0], "i0": [3], "it": [4]}),
        ("energy i0 Fe1 Fe2 Fe3", "Fe", {"energy": [0], "i0": [1], "if": [2, 3, 4]}),
        ("energy I0 Fe_Ka_mca1 Fe_Ka_mca2 OutputCount_mca1", "Fe", {"energy": [0], "i0": [1], "if": [2, 3]}),
        ("energy I0 DTC1 DTC2 ROI1 ICR1 OCR1", "V", {"energy": [0], "i0": [1], "if": [2, 3]}),
        ("i0 i1 i2", "I", {"i0": [0], "it": [1], "ir": [2]}),
        ("x y z", "Fe", {}),
    ],
)
def test_names_of_beamlines_are_known(labels, element, roles):
    assert roles_of_labels(labels.split(), element) == roles


def test_a_caller_names_columns_in_file_order():
    assert roles_of_caller(["energy", "_", "if", "IF", "i0"], 7) == {"energy": [0], "if": [2, 3], "i0": [4]}


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (["energy", "i0", "it"], FileFormatError, "at most 2 names of columns, found 3"),
        (["mu", "mu"], FileFormatError, "'mu' twice"),
        (["i0", "it"], MissingDataError, "expected 'energy' among the columns, found i0, it"),
    ],
)
def test_impossible_names_are_refused(columns, error, message):
    with pytest.raises(error, match=message):
        roles_of_caller(columns, 2)
