"""Headers of XDI files (XAS Data Interchange 1.0): fields, column names and faults.

Faults that leave the meaning of the numbers open are errors, as in the reference list of malformed files
that comes with the format; all others are collected as remarks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import FileFormatError
from bluesky_xpdml.sources.table import TextTable, words

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr
Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir
Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
"""
_EDGES = "K L L1 L2 L3 M M1 M2 M3 M4 M5 N N1 N2 N3 N4 N5 N6 N7 O O1 O2 O3 O4 O5 O6 O7"
SYMBOLS = frozenset(_SYMBOLS.split())
"""Chemical symbols."""
EDGES = frozenset(_EDGES.split())
"""Absorption edges that the format names."""
RECOMMENDED = ("Facility.name", "Facility.xray_source", "Beamline.name", "Scan.start_time", "Mono.d_spacing")
"""Fields that the format recommends."""

_VERSION = re.compile(r"#\s*XDI/(\d+\.\d+)\s*(.*)")
_FIELD = re.compile(r"([A-Za-z]\w*)\.(\w+)\s*:\s*(\S.*)")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_FORMATS = {
    "scan.start_time": (
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[T ]\d\d:\d\d(:\d\d.*)?",
        "a date and time",
    ),
    "scan.end_time": (
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[T ]\d\d:\d\d(:\d\d.*)?",
        "a date and time",
    ),
    "facility.energy": (_NUMBER + r"\s*[gGmM]eV\b.*", "a number and GeV or MeV"),
    "facility.current": (_NUMBER + r"\s*m?A\b.*", "a number and mA or A"),
    # Many write "room temperature", which is clear enough.
    "sample.temperature": (_NUMBER + r"\s*(deg)?\s*[KCF]\b.*|[^\d]*", "a number and K, C or F"),
    "mono.d_spacing": (_NUMBER + r"(\s.*)?", "a number"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class XdiHeader:
    """Content of the header of an XDI file."""

    fields: Mapping[str, str]
    """Value of each `family.key`, in lower case."""
    labels: tuple[str, ...]
    """Label of each column, empty if there is none."""
    remarks: tuple[str, ...]
    """Faults that do not change the meaning of the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sections:
    fields: list[tuple[int, str]]
    label_line: str
    remarks: list[str]


def is_xdi(text: str) -> bool:
    """Return whether the first line claims the XDI format.

    Examples
    --------
    >>> is_xdi("# XDI/1.0 GSE/1.0"), is_xdi("# energy mu")
    (True, False)
    """
    return _VERSION.match(text.lstrip("\ufeff")) is not None


def parse_header(table: TextTable) -> XdiHeader:
    r"""Return the header of an XDI file.

    A `FileFormatError` names the line that is not `Family.Key: value`, or that holds NaN or infinity.

    Examples
    --------
    >>> from bluesky_xpdml.sources.table import parse_table
    >>> text = "# XDI/1.0 GSE/1.0\n# Element.symbol: Fe\n#----\n# energy mu\n7000 1.0\n"
    >>> header = parse_header(parse_table(text, strict=True))
    >>> header.fields, header.labels
    ({'element.symbol': 'Fe'}, ('energy', 'mu'))
    """
    _refuse_nonfinite(table)
    sections = _sections(table)
    fields = dict(_field(number, line) for number, line in sections.fields)
    remarks = sections.remarks
    version = _VERSION.match(table.header[0][1])
    if version is not None and not version[2]:
        remarks.append("no application after the version")
    labels, wrong = _labels(fields, sections.label_line, table.data.shape[1])
    remarks += [*wrong, *_field_remarks(fields)]
    return XdiHeader(fields=fields, labels=labels, remarks=tuple(remarks))


def _sections(table: TextTable) -> _Sections:
    """Return the field lines, the user comments, the line of labels, and remarks on their order."""
    lines: dict[str, list[tuple[int, str]]] = {"fields": [], "comments": [], "labels": []}
    section = "fields"
    foreign = [str(number) for number, line in table.header[1:] if line and line[0] != "#"]
    for number, line in table.header[1:]:
        content = line[1:].strip() if line[:1] == "#" else ""
        if content.startswith("---"):
            section = "labels"
        elif section == "fields" and content.startswith("///"):
            section = "comments"
        elif content:
            lines[section].append((number, content))
    remarks = []
    if foreign:
        remarks.append(f"no '#' before line {', '.join(foreign)}, which was ignored")
    if section != "labels":
        remarks.append("no line '#----' above the data")
    if not lines["comments"]:
        remarks.append("no user comment")
    above = lines["labels"] if section == "labels" else lines["comments"]
    return _Sections(fields=lines["fields"], label_line=above[-1][1] if above else "", remarks=remarks)


def _field(number: int, line: str) -> tuple[str, str]:
    match = _FIELD.fullmatch(line)
    if match is None:
        raise FileFormatError(
            f"line {number}: expected '# Family.Key: value' in the header, found {line[:60]!r}"
        )
    return f"{match[1]}.{match[2]}".lower(), match[3].strip()


def _refuse_nonfinite(table: TextTable) -> None:
    bad = np.flatnonzero(~np.isfinite(table.data).all(axis=1))
    if bad.size:
        row, column = bad[0], int(np.flatnonzero(~np.isfinite(table.data[bad[0]]))[0])
        raise FileFormatError(
            f"line {table.rows[row]}: expected a finite number in column {column + 1}, "
            f"found {table.data[row, column]}"
        )


def _labels(fields: Mapping[str, str], line: str, n_columns: int) -> tuple[tuple[str, ...], list[str]]:
    """Return a label for each column: that of `Column.N`, else that of the line above the data."""
    given = {int(key[7:]): text for key, text in fields.items() if re.fullmatch(r"column\.\d+", key)}
    names = words(line)
    names = names if len(names) == n_columns else [""] * n_columns
    labels = tuple(given.get(index + 1, name) for index, name in enumerate(names))
    missing = [index for index in range(1, n_columns + 1) if index not in given]
    excess = sorted(index for index in given if index > n_columns)
    remarks = []
    if missing:
        remarks.append(f"no label for column {', '.join(map(str, missing))}")
    if excess:
        remarks.append(f"a label for column {', '.join(map(str, excess))} of a table of {n_columns}")
    return labels, remarks


def _field_remarks(fields: Mapping[str, str]) -> list[str]:
    remarks = []
    for key, allowed, name in (
        ("element.symbol", SYMBOLS, "Element.symbol"),
        ("element.edge", EDGES, "Element.edge"),
    ):
        if key not in fields:
            remarks.append(f"no {name}")
        elif fields[key] not in allowed:
            remarks.append(f"{name} is {fields[key][:20]!r}, which is none")
    for key, (pattern, meant) in _FORMATS.items():
        if key in fields and not re.fullmatch(pattern, fields[key], re.IGNORECASE):
            remarks.append(f"{key} is {fields[key][:30]!r}, not {meant}")
    lacking = [name for name in RECOMMENDED if name.lower() not in fields]
    if lacking:
        remarks.append(f"lacks {', '.join(lacking)}")
    remarks += [f"the key of {key} starts with a digit" for key in fields if re.search(r"\.\d+\D", key)]
    return remarks
