"""Which column means what, by the names that beamlines give them."""

import re
from collections.abc import Sequence

from bluesky_xpdml.errors import FileFormatError, MissingDataError

ROLES = ("energy", "i0", "it", "ir", "if", "iy", "mu")
"""Names that a caller may give to columns; any other name skips one."""

SYNONYMS = {
    "energy": ("energy", "e", "energie", "ene"),
    "angle": ("angle", "theta", "bragg"),
    "i0": ("i0", "io", "imon", "monitor"),
    "it": ("it", "itrans", "i1", "itransmission", "trans"),
    "ir": ("ir", "irefer", "iref", "i2", "irefe", "ireference"),
    "if": ("if", "ifluor", "fluor", "iff", "ifl", "fluo", "ifluo", "fluorescence"),
    "iy": ("iy", "iyield", "tey", "yield", "electronyield"),
    "mu": ("mu", "xmu", "mutrans", "mufluor", "norm", "mux", "absorption"),
}
"""Names of each role in lower case, in order of preference."""

_UNIT = re.compile(r"(?:^|[\s_(\[])(keV|eV)(?:$|[\s)\].,])", re.IGNORECASE)


def plain_name(label: str) -> str:
    """Return the bare name of a column: lower case, without unit, bracket and process variable.

    Examples
    --------
    >>> plain_name("energy eV || 13BMA:E"), plain_name("energy_eV"), plain_name("xmu(trans)")
    ('energy', 'energy', 'xmu')
    """
    first = re.split(r"[\s(\[|]", label.strip(), maxsplit=1)[0]
    return re.sub(r"_k?ev$", "", first.lower())


def stated_unit(label: str) -> str:
    """Return the unit of energy that a label states, `eV`, `keV` or nothing.

    Examples
    --------
    >>> stated_unit("energy keV"), stated_unit("energy_eV"), stated_unit("energy")
    ('keV', 'eV', '')
    """
    match = _UNIT.search(label.split("||", maxsplit=1)[0])
    if match is None:
        return ""
    return "keV" if match[1].lower() == "kev" else "eV"


def roles_of_labels(labels: Sequence[str], element: str) -> dict[str, list[int]]:
    """Find the columns of each role by their labels.

    Parameters
    ----------
    labels
        One a column.
    element
        Absorber, whose symbol names fluorescence channels at some beamlines; may be empty.

    Returns
    -------
    dict
        Column numbers of each role found; several only for `if`, the elements of a detector.

    Examples
    --------
    >>> roles_of_labels(["energy eV", "i0", "itrans", "irefer"], "Cr")
    {'energy': [0], 'i0': [1], 'it': [2], 'ir': [3]}
    >>> roles_of_labels(["Energy", "I0", "DTC1", "DTC2"], "V")
    {'energy': [0], 'i0': [1], 'if': [2, 3]}
    """
    names = [plain_name(label) for label in labels]
    found: dict[str, list[int]] = {}
    for role, synonyms in SYNONYMS.items():
        columns = [names.index(name) for name in synonyms if name in names]
        if columns:
            found[role] = columns[:1]
    elements = _detector_elements(names, element.lower())
    if elements and "if" not in found:
        found["if"] = elements
    return found


def roles_of_caller(columns: Sequence[str], n_columns: int) -> dict[str, list[int]]:
    """Find the columns of each role by the names that a caller gave in file order.

    Raises
    ------
    FileFormatError
        If there are more names than columns, or a role other than `if` is named twice.
    MissingDataError
        If no column is the energy.

    Examples
    --------
    >>> roles_of_caller(["energy", "-", "mu"], 3)
    {'energy': [0], 'mu': [2]}
    """
    if len(columns) > n_columns:
        raise FileFormatError(f"expected at most {n_columns} names of columns, found {len(columns)}")
    found: dict[str, list[int]] = {}
    for index, name in enumerate(columns):
        role = name.strip().lower()
        if role not in ROLES:
            continue
        found.setdefault(role, []).append(index)
    doubled = [role for role, where in found.items() if len(where) > 1 and role != "if"]
    if doubled:
        raise FileFormatError(f"expected one column for each name but 'if', found {doubled[0]!r} twice")
    if "energy" not in found:
        raise MissingDataError(f"expected 'energy' among the columns, found {', '.join(columns)}")
    return found


def _detector_elements(names: Sequence[str], element: str) -> list[int]:
    """Return the columns of a fluorescence detector with several elements."""
    symbol = re.escape(element) if element else r"[a-z]{1,2}"
    for pattern in (
        r"dtc_?\d+",
        rf"{symbol}_k(?:a|alpha)?_\w*?\d+",
        rf"{symbol}_?\d+",
        r"(?:i?fluor|if|iff|fl)_?\d+",
    ):
        columns = [index for index, name in enumerate(names) if re.fullmatch(pattern, name)]
        if columns and not {names[index] for index in columns} & {"i0", "i1", "i2", "e0"}:
            return columns
    return []
