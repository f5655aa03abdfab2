"""Simulated spectra on the measured axis and with the measured width, and random copies of them.

Two differences between simulated and measured spectra decide whether a forest transfers: simulated edges lie
elsewhere, and they are too sharp. The spectra are broadened, and every valence class is shifted so that its
mean edge lies on the measured curve. The shift uses the label, so a cross-validation of aligned spectra
would flatter itself: the benchmark on simulation runs unaligned.
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.features.xanes import FINE_GRID, FINE_STEP, features_of_shifts
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.edge_position import EdgeShape, edge_shape
from bluesky_xpdml.simulation.broadening import broaden

PSEUDO_SAMPLES = 10.0
"""Weight of the element's straight line in the mean edge of a class."""
TYPICAL_WIDTHS = (0.65, 3.25)
"""Widths below and above the edge at which the classes' edges are compared [eV]."""
EXTENT = 45.0
"""Simulated spectra are cut here [eV above the foil]."""
DECAY = 3.0
"""Below its start a simulated spectrum decays over this length [eV]."""
TAIL = 4.0
"""Above its end the mean of this much of it goes on [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedSpectra:
    """Simulated spectra with the shift that takes each to the measured axis."""

    x: FloatArray
    """Energy of the simulation above the metal foil [eV], (m,)."""
    mu: FloatArray
    """Spectra as simulated [edge steps], (n, m)."""
    half_edge: FloatArray
    """Half edge on the simulation's axis [eV above the foil], (n,)."""
    shift: FloatArray
    """Added to x to reach the measured axis [eV], (n,)."""


def align(spectra: SiteSpectra, foil_energy: float, model: EdgeModel) -> AlignedSpectra:
    """Find the half edge of each simulated spectrum and the shift of its valence class."""
    x = spectra.energy - foil_energy
    kept = x <= EXTENT
    x, mu = x[kept], spectra.mu[:, kept]
    half_edge = np.array([_shape(x, row).half_edge for row in mu])
    widths = (np.full(len(mu), value) for value in TYPICAL_WIDTHS)
    shapes = [_shape(x, row) for row in broaden(x, mu, half_edge, *widths)]
    edges = np.array([model.corrected(shape.edge, shape.pre_edge_peak) for shape in shapes])
    classes = class_edges(spectra.valence, edges)
    shift = {
        valence: float(np.interp(valence, model.valence, model.edge)) - edge
        for valence, edge in classes.items()
    }
    return AlignedSpectra(
        x=x, mu=mu, half_edge=half_edge, shift=np.array([shift[float(v)] for v in spectra.valence])
    )


def class_edges(valence: FloatArray, edges: FloatArray) -> dict[float, float]:
    """Return the mean edge of each valence class, shrunk towards the straight line through all spectra."""
    values = np.unique(valence)
    line = np.polyfit(valence, edges, 1) if len(values) > 1 else np.array([0.0, edges.mean()])
    result = {}
    for value in values:
        members = edges[valence == value]
        expected = float(np.polyval(line, value))
        mean = (members.sum() + PSEUDO_SAMPLES * expected) / (members.size + PSEUDO_SAMPLES)
        result[float(value)] = round(float(mean), 9)
    return result


def on_fine_grid(
    spectra: AlignedSpectra, mu: FloatArray, shift: FloatArray, stretch: FloatArray
) -> FloatArray:
    """Resample simulated spectra onto the features' fine grid, on the measured axis, (n, k)."""
    x, half_edge = spectra.x, spectra.half_edge[:, None]
    step = x[1] - x[0]
    source = half_edge + (FINE_GRID[None, :] - shift[:, None] - half_edge) / (1.0 + stretch[:, None]) - x[0]
    points = np.clip(source / step, 0.0, x.size - 1.000001)
    lower = points.astype(int)
    share = points - lower
    rows = np.arange(len(mu))[:, None]
    inside = mu[rows, lower] * (1.0 - share) + mu[rows, lower + 1] * share
    tail = mu[:, x > x[-1] - TAIL].mean(axis=1, keepdims=True)
    before = mu[:, :1] * np.exp(np.minimum(source, 0.0) / DECAY)
    return np.asarray(np.where(source < 0.0, before, np.where(source > (x.size - 1) * step, tail, inside)))


def _shape(x: FloatArray, mu: FloatArray) -> EdgeShape:
    """Extend by a baseline of zero so that the edge finder sees a pre-edge."""
    start = np.arange(x[0] - 40.0, x[0] - FINE_STEP / 2, FINE_STEP)
    lead = mu[0] * np.exp((start - x[0]) / DECAY)
    return edge_shape(np.concatenate([start, x]), np.concatenate([lead, mu]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Ranges of what is varied between copies."""

    copies: int = 6
    width_below: tuple[float, float] = (0.3, 1.0)
    """Gaussian standard deviation below the edge [eV]."""
    width_above: tuple[float, float] = (1.5, 5.0)
    """Gaussian standard deviation above the edge [eV]."""
    axis_sigma: float = 0.5
    """Standard deviation of the shift of the axis [eV]."""
    stretch: float = 0.05
    """Largest relative stretch of the axis about the half edge."""
    slope: float = 0.05
    """Largest relative slope over the window."""
    self_absorption: float = 0.2
    """Largest strength of self-absorption, applied to half of the copies."""
    noise: float = 0.01
    """Largest standard deviation of the noise [edge steps]."""


def augmented_features(
    spectra: AlignedSpectra, settings: Augmentation, random: np.random.Generator
) -> FloatArray:
    """Draw copies of simulated spectra and compute their features, (copies * n, 72)."""
    return np.concatenate([_one_copy(spectra, settings, random) for _ in range(settings.copies)])


def _one_copy(spectra: AlignedSpectra, settings: Augmentation, random: np.random.Generator) -> FloatArray:
    n = len(spectra.mu)
    mu = broaden(
        spectra.x,
        spectra.mu,
        spectra.half_edge,
        random.uniform(*settings.width_below, n),
        random.uniform(*settings.width_above, n),
    )
    shift = spectra.shift + random.normal(0.0, settings.axis_sigma, n)
    signal = on_fine_grid(spectra, mu, shift, random.uniform(-settings.stretch, settings.stretch, n))
    absorbed = random.uniform(0.0, settings.self_absorption, (n, 1)) * (random.random((n, 1)) < 0.5)
    signal = signal * (1.0 + absorbed) / (1.0 + absorbed * signal)
    ramp = np.linspace(-0.5, 0.5, signal.shape[1])
    signal = signal * (1.0 + random.uniform(-settings.slope, settings.slope, (n, 1)) * ramp)
    noise = random.uniform(0.0, settings.noise, (n, 1)) * random.normal(size=signal.shape)
    return features_of_shifts(signal + noise, np.zeros(1))[:, 0, :]
