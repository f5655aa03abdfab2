"""Text files of scattering: patterns `.chi`, `.xy`, `.iq`, and pair distribution functions `.gr`."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.records import FloatArray, PairDistribution, Quality, Sample, ScatteringPattern
from bluesky_xpdml.reduction.composition import atom_fractions
from bluesky_xpdml.reduction.pattern import QUnit, momentum_transfer
from bluesky_xpdml.sources.table import COMMENT_CHARACTERS, TextTable, parse_table, read_text
from bluesky_xpdml.vocabulary import Reason, ReasonCode

LARGEST_Q = 60.0
"""No X-ray pattern reaches further [1/angstrom]."""

_UNITS = (
    (r"inverse\s+nano|1/nm|nm\^?-1|nm\^?\{-1\}|nm-1|q_nm", QUnit.PER_NANOMETRE),
    (
        r"inverse\s+ang|1/a\b|1/å|a\^?-1|å\^?-1|a\^?\{-1\}|å\^?\{-1\}|angstrom\^?-1|1/ang|q_a\b",
        QUnit.PER_ANGSTROM,
    ),
    (r"(2|two)[\s_-]?th\w*.{0,12}rad|2th_rad", QUnit.TWO_THETA_RADIANS),
    (r"(2|two)[\s_-]?th\w*.{0,12}deg|2th_deg|2-theta angle \(degrees\)", QUnit.TWO_THETA_DEGREES),
)
_DATA_FORMATS = {
    "qa": QUnit.PER_ANGSTROM,
    "qnm": QUnit.PER_NANOMETRE,
    "twotheta": QUnit.TWO_THETA_DEGREES,
}
_SETTING = re.compile(r"([A-Za-z_][\w.]*)\s*[=:]\s*(\S.*)")
_NAMES = {
    "qmin": "q_min",
    "qmax": "q_max",
    "qmaxinst": "q_max_inst",
    "rpoly": "r_poly",
    "bgscale": "background_scale",
    "rmin": "r_min",
    "rmax": "r_max",
    "rstep": "r_step",
    "backgroundfile": "background",
    "inputfile": "input",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """Content of a text file, before its axis gets a unit."""

    table: TextTable
    settings: dict[str, str]


def read_pattern(
    path: Path | str,
    *,
    q_unit: QUnit | str | None = None,
    wavelength: float | None = None,
    composition: str = "",
) -> ScatteringPattern:
    r"""Read I(Q) from a text file: axis, intensity and, in a third column, its standard uncertainty.

    The unit of the axis is that of the caller, or else that of the header. It is never guessed from the
    numbers: 1/nm and degrees look alike.

    Parameters
    ----------
    path
        Columns of numbers under any header, such as `.chi`, `.xy`, `.iq`.
    q_unit
        `1/A`, `1/nm`, `2th_deg` or `2th_rad`; overrides the header.
    wavelength
        Of the X-rays [angstrom]; overrides the header.
    composition
        Of the sample, a formula.

    Raises
    ------
    MissingDataError
        If the file cannot be opened, or the unit of its axis is not known.
    FileFormatError
        If it holds no table of numbers, or the axis does not fit its unit.
    ReductionError
        If the axis counts angles and no wavelength is known.

    Examples
    --------
    >>> import tempfile
    >>> rows = "\n".join(f"{i / 10} {100 - i}" for i in range(1, 60))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.chi"
    ...     _ = path.write_text("Q (Inverse Nanometres)\nIntensity\n" + rows)
    ...     pattern = read_pattern(path)
    >>> pattern.q[:3].round(3)
    array([0.01, 0.02, 0.03])
    """
    path = Path(path)
    content = _read(path)
    unit = _unit(path, content, q_unit)
    length = wavelength if wavelength is not None else _wavelength(content)
    axis, order, dropped = _axis(path, content.table)
    q = momentum_transfer(axis, unit, length)
    if q.size and q[-1] > LARGEST_Q:
        raise FileFormatError(
            f"{path.name}: as {unit} the axis runs up to Q = {q[-1]:.4g} 1/angstrom, farther than "
            "any X-ray pattern: state the unit with --q-unit"
        )
    columns = content.table.data[order]
    return ScatteringPattern(
        q=q,
        intensity=np.ascontiguousarray(columns[:, 1]),
        variance=_variance(columns),
        wavelength=length,
        settings={"axis_unit": str(unit)},
        sample=Sample(composition=composition or content.settings.get("composition", "")),
        source=path.name,
        quality=Quality().note(*dropped),
    )


def read_pdf(path: Path | str, *, composition: str = "") -> PairDistribution:
    r"""Read G(r) from a `.gr` file: r [angstrom], G [1/angstrom^2], and optionally sigma of r and of G.

    Parameters
    ----------
    path
        As PDF programs write it, with or without a header of settings.
    composition
        Of the sample, a formula; overrides the header.

    Raises
    ------
    MissingDataError
        If the file cannot be opened.
    FileFormatError
        If it holds no table of numbers, or r does not ascend.
    ReductionError
        If the composition cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.gr"
    ...     _ = path.write_text("composition = Ni\nqmax = 25\n#### start data\n0.0 0.0\n0.1 -0.3\n")
    ...     pdf = read_pdf(path)
    >>> pdf.r, pdf.composition, pdf.settings["q_max"]
    (array([0. , 0.1]), {'Ni': 1.0}, 25.0)
    """
    path = Path(path)
    content = _read(path)
    r, order, dropped = _axis(path, content.table)
    columns = content.table.data[order]
    stated = composition or content.settings.get("composition", "")
    settings = {_NAMES.get(key, key): _plain(value) for key, value in content.settings.items()}
    return PairDistribution(
        r=r,
        g=np.ascontiguousarray(columns[:, 1]),
        g_variance=_pdf_variance(columns),
        composition=atom_fractions(stated) if stated else {},
        settings=settings,
        sample=Sample(composition=stated),
        source=path.name,
        quality=Quality().note(*dropped),
    )


def _read(path: Path) -> _File:
    """Read a table; lines above it that look like settings are settings."""
    text = read_text(path)
    try:
        table = parse_table(_without_count(text))
    except FileFormatError as error:
        raise FileFormatError(f"{path.name}: {error}") from error
    settings = {}
    for _, line in table.header:
        match = _SETTING.fullmatch(line.lstrip(COMMENT_CHARACTERS + " "))
        if match is not None:
            settings[match[1].lower()] = match[2].strip()
    return _File(table=table, settings=settings)


def _without_count(text: str) -> str:
    """Blank the fourth line if it holds the number of points and of curves, as some integrators write."""
    lines = text.splitlines()
    count = re.fullmatch(r"\s*(\d+)\s+\d+\s*", lines[3]) if len(lines) > 4 else None
    if count is None or int(count[1]) != sum(1 for line in lines[4:] if line.strip()):
        return text
    return "\n".join((*lines[:3], "", *lines[4:]))


def _unit(path: Path, content: _File, given: QUnit | str | None) -> QUnit:
    if given is not None:
        try:
            return QUnit(given)
        except ValueError:
            known = ", ".join(QUnit)
            raise FileFormatError(
                f"expected one of {known} as the unit of the axis, found {given!r}"
            ) from None
    data_format = content.settings.get("dataformat", "").lower()
    if data_format in _DATA_FORMATS:
        return _DATA_FORMATS[data_format]
    found = {
        unit
        for _, line in content.table.header
        for pattern, unit in _UNITS
        if re.search(pattern, line, re.IGNORECASE)
    }
    if len(found) == 1:
        return found.pop()
    several = f"names several units ({', '.join(sorted(found))})" if found else "does not say the unit"
    raise MissingDataError(
        f"{path.name}: the header {several} of the axis; state it with --q-unit: {', '.join(QUnit)}"
    )


def _wavelength(content: _File) -> float | None:
    try:
        value = float(content.settings.get("wavelength", "").split(" ")[0])
    except ValueError:
        return None
    # Programs that need no wavelength write 0 or a placeholder of 0.1.
    return value if value > 0.1 else None


def _axis(
    path: Path, table: TextTable
) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.intp]], tuple[Reason, ...]]:
    """Return the axis in ascending order, the order of the rows, and a remark on rows left out."""
    axis = table.data[:, 0]
    order = np.arange(axis.size)
    order = order[np.isfinite(axis)]
    if order.size > 1 and np.all(np.diff(axis[order]) < 0.0):
        order = order[::-1]
    wrong = np.flatnonzero(np.diff(axis[order]) <= 0.0)
    if wrong.size:
        row = int(order[wrong[0] + 1])
        raise FileFormatError(
            f"{path.name}: line {table.rows[row]}: expected an ascending axis, found {axis[row]:g} after "
            f"{axis[order[wrong[0]]]:g}"
        )
    n_dropped = axis.size - order.size
    remark = Reason(f"{n_dropped} rows without a position left out", ReasonCode.INTERPRETED_INPUT)
    return axis[order], order, (remark,) if n_dropped else ()


def _variance(columns: FloatArray) -> FloatArray | None:
    """Return squared uncertainties if a third column holds them."""
    if columns.shape[1] < 3:
        return None
    sigma = columns[:, 2]
    if not np.all(np.isfinite(sigma)) or np.any(sigma < 0.0) or not np.any(sigma > 0.0):
        return None
    return np.asarray(sigma**2)


def _pdf_variance(columns: FloatArray) -> FloatArray | None:
    """Return the variance of G: from the fourth column if the third is that of r, or else from the third."""
    if columns.shape[1] > 3:
        return _variance(columns[:, [0, 1, 3]])
    return _variance(columns)


def _plain(value: str) -> object:
    try:
        return float(value)
    except ValueError:
        return value
