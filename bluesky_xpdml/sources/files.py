"""Data files of beamlines: XDI and tables of columns, read into absorption scans.

Columns have roles: energy, angle and the channels. They are found by the names that beamlines give them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_xpdml.documents import absorption_scan, bragg_energy
from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError
from bluesky_xpdml.records import AbsorptionScan, FloatArray, Quality, Sample
from bluesky_xpdml.sources.table import COMMENT_CHARACTERS, TextTable, parse_table, read_text, words
from bluesky_xpdml.sources.xdi import EDGES, SYMBOLS, is_xdi, parse_header
from bluesky_xpdml.vocabulary import Reason, ReasonCode

CRYSTALS = {"si111": 3.13556, "si220": 1.92012, "si311": 1.63747, "si333": 1.04519}
"""Lattice plane distances of monochromator crystals, silicon at room temperature [angstrom]."""

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
_PLAIN_FIELD = re.compile(r"%?\s*(element|edge|sample|sample name)\s*:\s*(\S.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """Content of a file, before columns get their roles."""

    data: FloatArray
    labels: tuple[str, ...]
    fields: Mapping[str, str]
    remarks: tuple[Reason, ...]


def read_scan(
    path: Path | str,
    *,
    element: str = "",
    edge: str = "",
    columns: Sequence[str] | None = None,
    energy_unit: str | None = None,
) -> AbsorptionScan:
    r"""Read one absorption scan from a text file.

    Columns are found by their names; if a file holds counts and mu, counts are used. An axis of angles is
    converted if the header states the lattice plane distance or the crystal.

    Parameters
    ----------
    path
        XDI, or columns of numbers under any header.
    element, edge
        Absorber and edge; they override what the file states.
    columns
        Roles of the columns in file order: `energy`, `i0`, `it`, `ir`, `if`, `iy`, `mu`; any other skips one.
    energy_unit
        `eV` or `keV`; needed if neither the header nor the size of the numbers settles it.

    Raises
    ------
    MissingDataError
        If the file cannot be opened, or has no column for the energy or the absorption.
    FileFormatError
        If it cannot be read as what it claims to be; the message names the line.
    DocumentError
        If what was read is no scan.

    Examples
    --------
    >>> import tempfile
    >>> rows = "\n".join(f"{7000 + i} {i / 100}" for i in range(50))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scan.dat"
    ...     _ = path.write_text("# energy mu\n" + rows)
    ...     scan = read_scan(path, element="Fe", edge="K")
    >>> scan.element, scan.energy.size
    ('Fe', 50)
    """
    path = Path(path)
    try:
        content = _content(path)
        return _scan(content, source=path.name, element=element, edge=edge, columns=columns, unit=energy_unit)
    except DocumentError as error:
        text = str(error) if path.name in str(error) else f"{path.name}: {error}"
        raise type(error)(text, error.code) from error


def _interpreted(text: str) -> Reason:
    return Reason(text, ReasonCode.INTERPRETED_INPUT)


def _content(path: Path) -> _Content:
    text = read_text(path)
    if path.suffix.lower() in {".xdi", ".xd"} and not is_xdi(text):
        raise FileFormatError(
            "line 1: expected '# XDI/1.0 ...' at the top of an XDI file; rename other formats"
        )
    if is_xdi(text):
        table = parse_table(text, strict=True)
        header = parse_header(table)
        remarks = (_interpreted(f"XDI header: {'; '.join(header.remarks)}"),) if header.remarks else ()
        return _Content(data=table.data, labels=header.labels, fields=header.fields, remarks=remarks)
    table = parse_table(text)
    return _Content(data=table.data, labels=_plain_labels(table), fields=_plain_fields(table), remarks=())


def _plain_labels(table: TextTable) -> tuple[str, ...]:
    """Return the words of the last line of the header that has one for each column."""
    n_columns = table.data.shape[1]
    for _, line in reversed(table.header):
        names = words(line.lstrip(COMMENT_CHARACTERS + " "))
        if len(names) == n_columns and any(plain_name(name) in {"energy", "e", "ene"} for name in names):
            return tuple(names)
    return ()


def _plain_fields(table: TextTable) -> dict[str, str]:
    keys = {"element": "element.symbol", "edge": "element.edge"}
    fields = {}
    for _, line in table.header:
        match = _PLAIN_FIELD.fullmatch(line.lstrip(COMMENT_CHARACTERS + " "))
        if match is not None:
            fields[keys.get(match[1].lower(), "sample.name")] = match[2].strip()
    return fields


def _scan(
    content: _Content,
    *,
    source: str,
    element: str,
    edge: str,
    columns: Sequence[str] | None,
    unit: str | None,
) -> AbsorptionScan:
    remarks = list(content.remarks)
    element = _settled("element", element, content.fields.get("element.symbol", ""), remarks)
    edge = _settled("edge", edge, content.fields.get("element.edge", ""), remarks)
    roles = _roles(content, element, columns, remarks)
    axis, found_unit = _axis(content, roles, unit, remarks)
    elements = _detector_elements(content, roles)
    signals = {role: content.data[:, where[0]] for role, where in roles.items() if len(where) == 1}
    sample = Sample(
        name=content.fields.get("sample.name", ""), composition=content.fields.get("sample.formula", "")
    )
    try:
        return absorption_scan(
            energy=axis,
            energy_unit=found_unit,
            i0=signals.get("i0"),
            it=signals.get("it"),
            ir=signals.get("ir"),
            fluorescence=signals.get("if"),
            fluorescence_elements=elements,
            electron_yield=signals.get("iy"),
            mu=signals.get("mu"),
            element=element,
            edge=edge,
            sample=sample,
            source=source,
            quality=Quality().note(*remarks),
        )
    except DocumentError as error:
        # What was noticed before is often the cause.
        raise type(error)("; ".join((str(error), *remarks)), error.code) from error


def _detector_elements(content: _Content, roles: Mapping[str, list[int]]) -> dict[str, FloatArray]:
    """Return the fluorescence by detector element, under the name of its column, if there are several."""
    where = roles.get("if", [])
    labels = [content.labels[index] if content.labels else "" for index in where]
    names = [
        label.split()[0] if label.strip() else f"column {index + 1}"
        for label, index in zip(labels, where, strict=True)
    ]
    if len(set(names)) < len(names):
        names = [f"column {index + 1}" for index in where]
    return {name: content.data[:, i] for name, i in zip(names, where, strict=True)} if len(where) > 1 else {}


def _settled(what: str, given: str, found: str, remarks: list[Reason]) -> str:
    """Return what the caller or else the file states; an impossible value of the file counts as none."""
    allowed = SYMBOLS if what == "element" else EDGES
    found = found if found in allowed else ""
    if given and given not in allowed:
        raise DocumentError(f"expected the name of an {what}, found {given!r}")
    if given and found and given != found:
        contradiction = f"{what} {given} was given; the file says {found}"
        remarks.append(Reason(contradiction, ReasonCode.ELEMENT_CONTRADICTED))
    return given or found


def _roles(
    content: _Content, element: str, columns: Sequence[str] | None, remarks: list[Reason]
) -> dict[str, list[int]]:
    n_columns = content.data.shape[1]
    if columns is not None:
        return roles_of_caller(columns, n_columns)
    if any(content.labels):
        return roles_of_labels(content.labels, element)
    if n_columns == 2:
        remarks.append(_interpreted("the columns have no names; taken as energy and mu"))
        return {"energy": [0], "mu": [1]}
    raise MissingDataError(
        f"the {n_columns} columns have no names; say what they are, such as --columns energy,i0,it "
        "(names: energy i0 it ir if iy mu, - skips one)"
    )


def _axis(
    content: _Content, roles: Mapping[str, list[int]], unit: str | None, remarks: list[Reason]
) -> tuple[FloatArray, str]:
    if "energy" in roles:
        column = roles["energy"][0]
        values = content.data[:, column]
        label = content.labels[column] if content.labels else ""
        return values, unit or _energy_unit(values, stated_unit(label))
    if "angle" in roles:
        column = roles["angle"][0]
        spacing = _plane_distance(content.fields, remarks)
        return _energy_of_angle(content.data[:, column], spacing, content.labels[column]), "eV"
    known = ", ".join(label for label in content.labels if label)
    raise MissingDataError(
        f"expected a column named energy or angle, found {known}; say what they are with --columns"
    )


def _energy_unit(values: FloatArray, stated: str) -> str:
    """Return the unit if statement and numbers agree; the numbers alone settle only eV."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    fits = {"eV": low >= 100.0, "keV": low >= 0.1 and high <= 200.0}
    if stated and fits[stated]:
        return stated
    if not stated and low >= 1000.0:
        return "eV"
    hint = (
        "pass --energy-unit keV"
        if low >= 1.0 and high <= 60.0
        else "pass --energy-unit, or check the columns"
    )
    label = f"labelled {stated}" if stated else "without a unit"
    raise FileFormatError(f"the energies run from {low:g} to {high:g} {label}: the unit is unclear; {hint}")


def _plane_distance(fields: Mapping[str, str], remarks: list[Reason]) -> float:
    """Return the lattice plane distance that the header states, or else that of its crystal [angstrom]."""
    stated = fields.get("mono.d_spacing", fields.get("mono.dspacing", "")).split(" ")[0]
    try:
        value = float(stated)
    except ValueError:
        value = 0.0
    if value > 0.0:
        return value
    crystal = re.sub(r"[^a-z0-9]", "", fields.get("mono.name", "").lower())
    if crystal not in CRYSTALS:
        raise MissingDataError(
            "expected Mono.d_spacing beside an axis of angles; add it, or convert to energy"
        )
    found = f"{CRYSTALS[crystal]} angstrom of {fields['mono.name']} was used"
    remarks.append(_interpreted(f"angle given without mono.d_spacing: {found}"))
    return CRYSTALS[crystal]


def _energy_of_angle(angle: FloatArray, spacing: float, label: str) -> FloatArray:
    """Return the energy by Bragg's law, E = hc / (2 d sin(theta)) [eV]."""
    lower = label.lower()
    radians = angle if "rad" in lower else np.deg2rad(angle * (1e-3 if "mdeg" in lower else 1.0))
    return bragg_energy(radians, spacing)


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
    """Return the columns of each role by their labels; several only for `if`, the elements of a detector.

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
    elements = _numbered_columns(names, element.lower())
    if elements and "if" not in found:
        found["if"] = elements
    return found


def roles_of_caller(columns: Sequence[str], n_columns: int) -> dict[str, list[int]]:
    """Return the columns of each role by the names that a caller gave in file order.

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


def _numbered_columns(names: Sequence[str], element: str) -> list[int]:
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
