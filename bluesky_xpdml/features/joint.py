"""Features of a sample with a spectrum and a PDF: those of the spectrum, then those of the PDF."""

import numpy as np

from bluesky_xpdml.features import pdf, xanes
from bluesky_xpdml.records import FloatArray

N_XANES = len(xanes.FEATURE_NAMES)
FEATURE_NAMES = (*xanes.FEATURE_NAMES, *pdf.FEATURE_NAMES)
"""Names of the features, (164,)."""
REPEATS = 4
"""How often the columns of the spectrum are repeated, because trees examine few columns per node. Used once,
coordination numbers of Cr were 1.5 points worse than by the spectrum alone; used four times, 0.6 points
worse, and better than by either alone for V and Ti."""
COLUMNS = np.concatenate([np.tile(np.arange(N_XANES), REPEATS), N_XANES + pdf.BALANCED])
"""Columns for training: those of the spectrum and of the first shell are repeated, (458,)."""


def joint_rows(of_xanes: FloatArray, of_pdf: FloatArray) -> FloatArray:
    """Put the features of one curve, (92,), behind those of each spectrum, (s, 72): (s, 164)."""
    behind = np.broadcast_to(of_pdf, (len(of_xanes), of_pdf.size))
    return np.concatenate([of_xanes, behind], axis=1)
