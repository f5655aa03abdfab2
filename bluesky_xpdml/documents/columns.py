"""Columns of numbers from documents and files, which may hold anything."""

import numpy as np
from numpy.typing import ArrayLike

from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.records import FloatArray


def float_column(values: ArrayLike, name: str) -> FloatArray:
    """Return values as a one-dimensional float array that owns its data, (n,).

    A DocumentError with the name of the column is raised if they are not real numbers, one per point.
    """
    try:
        column = np.asarray(values)
        if column.dtype.kind == "O":
            column = np.array([_number(value) for value in column], dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise DocumentError(f"expected one number a point in {name}: {error}") from error
    if column.dtype.kind not in "biuf":
        raise DocumentError(f"expected real numbers in {name}, found the type {column.dtype}")
    if column.ndim != 1:
        raise DocumentError(f"expected one number a point in {name}, found an array of shape {column.shape}")
    # A long double beyond the range of a float becomes inf, which is then treated as any inf is.
    with np.errstate(over="ignore"):
        return np.array(column, dtype=np.float64)


def real_number(value: object) -> float | None:
    """Return a finite number from a number or a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _number(value: object) -> float:
    """Return a number as a float and None as NaN; anything else raises a TypeError."""
    if value is None:
        return float("nan")
    if isinstance(value, bool | int | float | np.number) and not isinstance(value, np.complexfloating):
        return float(value)
    raise TypeError(f"found {type(value).__name__} {str(value)[:40]!r}")
