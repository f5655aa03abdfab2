"""Results as text files: `.gr`, `.fq`, `.sq`, `.iq` and `.xanes`, columns under a header of all settings.

The headers suit the readers of diffpy and GSAS-II: settings under their usual names, a line
`#### start data`, a line `#L` with the names of the columns, plain ASCII.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.records import FloatArray, PairDistribution, Quality, Xanes
from bluesky_xpdml.reduction.composition import formula

_USUAL_NAMES = {
    "q_min": "qmin",
    "q_max": "qmax",
    "q_max_inst": "qmaxinst",
    "r_poly": "rpoly",
    "r_min": "rmin",
    "r_max": "rmax",
    "r_step": "rstep",
    "background_scale": "bgscale",
    "background": "backgroundfile",
}
_NUMBER = "%.8g"


def write_pdf(pdf: PairDistribution, folder: Path | str, name: str = "") -> tuple[Path, ...]:
    """Write G(r), and F(Q), S(Q) and I(Q) if they are known, to `<name>.gr`, `.fq`, `.sq`, `.iq`.

    `.gr` holds r, G, 0 and the standard uncertainty of G, the others Q, value and standard uncertainty;
    without variances those columns are left out. The point r = 0, where G is 0 by definition, is left out.

    Parameters
    ----------
    pdf
        Reduced curves.
    folder
        Created if it does not exist.
    name
        Name of the files, without suffix; if empty, that of the source.

    Returns
    -------
    paths
        Files that were written.

    Raises
    ------
    MissingDataError
        If neither name nor source is known.

    Examples
    --------
    >>> import tempfile
    >>> pdf = PairDistribution(r=np.array([0.0, 0.1]), g=np.array([0.0, -0.3]), composition={"Ni": 1.0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_pdf(pdf, folder, "nickel")]
    ['nickel.gr']
    """
    folder, name = _target(folder, name, pdf.source)
    header = _header(pdf.settings, pdf.source, pdf.quality) | {"composition": formula(pdf.composition)}
    header |= {"mode": "xray", "raw_uids": " ".join(pdf.raw_uids), "scale_uncertainty": pdf.scale_uncertainty}
    written = [_write(folder / f"{name}.gr", header, *_g_columns(pdf))]
    for suffix, label, values, variance in (
        ("fq", "F(A^-1)", pdf.f, pdf.f_variance),
        ("sq", "S", pdf.s, pdf.s_variance),
        ("iq", "I(eu/atom)", pdf.intensity, pdf.intensity_variance),
    ):
        if pdf.q is None or values is None:
            continue
        columns = {"Q(A^-1)": pdf.q, label: values}
        if variance is not None:
            columns[f"sigma_{label}"] = np.sqrt(variance)
        written.append(_write(folder / f"{name}.{suffix}", header, suffix, columns))
    return tuple(written)


def write_xanes(xanes: Xanes, folder: Path | str, name: str = "") -> Path:
    """Write a reduced spectrum to `<name>.xanes`: energy [eV], mu, norm, flat.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    folder
        Created if it does not exist.
    name
        Name of the file, without suffix; if empty, that of the source.

    Raises
    ------
    MissingDataError
        If neither name nor source is known.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_xpdml.records import AbsorptionScan
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7120.0) / 2.0), element="Fe", edge="K")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_xanes(reduce_xanes(scan), folder, "iron").name
    'iron.xanes'
    """
    folder, name = _target(folder, name, xanes.source)
    header = _header(xanes.settings, xanes.source, xanes.quality)
    header |= {"element": xanes.element, "edge": xanes.edge, "edge_step": xanes.edge_step}
    header |= {"raw_uids": " ".join(xanes.raw_uids)}
    columns = {"energy(eV)": xanes.energy, "mu": xanes.mu, "norm": xanes.norm, "flat": xanes.flat}
    return _write(folder / f"{name}.xanes", header, "xanes", columns)


def _target(folder: Path | str, name: str, source: str) -> tuple[Path, str]:
    name = name or Path(source).stem
    if not name:
        raise MissingDataError(
            "expected a name for the files to write; this record has no source to take it from"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder, name


def _header(settings: Mapping[str, Any], source: str, quality: Quality) -> dict[str, Any]:
    named = {_USUAL_NAMES.get(key, key): value for key, value in settings.items()}
    remarks = {f"remark{number}": reason for number, reason in enumerate(quality.reasons, start=1)}
    return {"inputfile": source} | named | {"quality": quality.verdict.value} | remarks


def _g_columns(pdf: PairDistribution) -> tuple[str, dict[str, FloatArray]]:
    # Readers ignore all uncertainties if one of them is 0, as that of G(0) is.
    chosen = pdf.r > 0.0
    columns = {"r(A)": pdf.r[chosen], "G(A^-2)": pdf.g[chosen]}
    if pdf.g_variance is not None:
        columns |= {"dr(A)": np.zeros(np.count_nonzero(chosen)), "dG(A^-2)": np.sqrt(pdf.g_variance[chosen])}
    return "gr", columns


def _write(path: Path, header: Mapping[str, Any], kind: str, columns: Mapping[str, FloatArray]) -> Path:
    lines = ["[bluesky_xpdml]", *_lines(header), f"outputtype = {kind}", "", "#### start data", "#S 1"]
    names = list(columns)
    # GSAS-II looks for exactly '#L r' or '#L Q', diffpy for any line of hashes after 'start data'.
    lines.append(f"#L {'  '.join(names)}")
    table = np.column_stack(list(columns.values()))
    with path.open("w", encoding="ascii", errors="backslashreplace", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, table, fmt=_NUMBER)
    return path


def _lines(header: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield settings as lines, nested ones under dotted names; unknown ones are left out."""
    for key, value in header.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{key}.")
        elif value is not None and value != "":
            text = f"{value:.10g}" if isinstance(value, float) else " ".join(str(value).split())
            yield f"{prefix}{key} = {text}"
