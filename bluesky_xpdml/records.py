"""Records: the frozen values that pass between the parts of this package.

Documents and files become records, models turn them into a `Prediction`, and that becomes documents again.
Arrays are float64 and one-dimensional unless a field says otherwise; energies in eV, lengths in angstrom.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

FloatArray: TypeAlias = NDArray[np.float64]

TRIAL = "xpdml_trial"
"""Entry of a raw start document in which a planner states its request: `campaign`, `id`, `parameters`."""

PURPOSE = "xpdml"
"""Entry `purpose` of the start document of derived runs; that of live runs begins with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Metadata of the raw run that its prediction carries on; an empty string if the raw run had none.

    Readers of predictions never open raw runs: all that they need of them is here.
    """

    time: float | None = None
    """When the raw run began [s since 1970]; None for files."""
    beamline: str = ""
    proposal: str = ""
    """Number or name of the proposal, else of the data session."""
    scan_id: str = ""
    trial: Mapping[str, object] = field(default_factory=dict)
    """Request of a planner: `campaign`, `id` and `parameters`; empty if there was none."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Further entries of the start document that the user wants carried on, by dotted path."""
    access_tags: tuple[str, ...] = ()
    """`tiled_access_tags`: servers with a tag policy show the prediction to who may see one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Parts that add up to one answer: `base`, the features, and other parts of the model."""

    unit: str
    """Of every number here but the importances: `e`, `1` or `angstrom`."""
    answer: float
    """What was predicted."""
    base: float
    """Mean answer of the model to its background."""
    features: FloatArray
    """What each feature adds, Shapley values, (n_features,)."""
    others: Mapping[str, float]
    """What other parts of the model add, by name, such as `edge position`."""
    importance: FloatArray
    """Share of the forest's impurity decrease that each feature brought at training, (n_features,)."""
    permutation: FloatArray
    """Accuracy or R2 that is lost on unseen formulas if a feature is shuffled, (n_features,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A named part of a curve, with what its features add to each answer."""

    name: str
    """`pre-edge`, `edge`, `white line`, `post-edge`; `first shell`, `second shell`, `further shells`."""
    low: float
    """Start [eV above the metal foil, or angstrom]."""
    high: float
    """End [same]."""
    attribution: Mapping[Descriptor, float]
    """Sum over the region's features [unit of the descriptor]."""
    importance: Mapping[Descriptor, float]
    """Sum of the impurity importances of its features, a share of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Which parts of a curve led to the answers of a prediction. Arrays have the shape (n_features,)."""

    grid: FloatArray
    """Position of each feature [eV above the metal foil, or angstrom]."""
    unit: str
    """Of the grid and of the regions: `eV` or `angstrom`."""
    features: tuple[str, ...]
    """Names of the features."""
    attributions: Mapping[Descriptor, Attribution]
    regions: tuple[Region, ...]
    """In the order of the curve, without gaps; each feature belongs to one."""
    edge_share: float | None = None
    """How far the oxidation state follows the edge position and not the shape, 0 to 1. None if the model does
    not use the edge, or both agree."""


class Verdict(StrEnum):
    """How reliable a result is."""

    GOOD = "good"
    SUSPECT = "suspect"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A verdict and the reasons for it, in words a person can act on.

    Examples
    --------
    >>> quality = Quality().suspect(Reason("axis not calibrated", ReasonCode.AXIS_UNCALIBRATED))
    >>> quality.verdict, quality.reasons, quality.has(ReasonCode.AXIS_UNCALIBRATED)
    (<Verdict.SUSPECT: 'suspect'>, ('axis not calibrated',), True)
    >>> quality.failed(Reason("no model for Zn", ReasonCode.MODEL_MISSING)).verdict
    <Verdict.FAILED: 'failed'>
    """

    verdict: Verdict = Verdict.GOOD
    reasons: tuple[Reason, ...] = ()
    """Most important first."""

    def note(self, *reasons: Reason) -> "Quality":
        """Return the same verdict with more remarks."""
        return replace(self, reasons=tuple(dict.fromkeys((*self.reasons, *reasons))))

    def suspect(self, *reasons: Reason) -> "Quality":
        """Return at least `suspect`, with the reasons added; without reasons nothing changes."""
        return self.merge(Quality(verdict=Verdict.SUSPECT, reasons=reasons)) if reasons else self

    def failed(self, *reasons: Reason) -> "Quality":
        """Return `failed`, with the reasons added."""
        return self.merge(Quality(verdict=Verdict.FAILED, reasons=reasons))

    def merge(self, other: "Quality") -> "Quality":
        """Return the worse verdict of the two, with the reasons of both."""
        worse = max(self.verdict, other.verdict, key=list(Verdict).index)
        return replace(self, verdict=worse).note(*other.reasons)

    def of(self, *codes: ReasonCode) -> tuple[Reason, ...]:
        """Return the reasons that have one of the codes."""
        return tuple(reason for reason in self.reasons if getattr(reason, "code", None) in codes)

    def has(self, *codes: ReasonCode) -> bool:
        """Return whether a reason has one of the codes."""
        return bool(self.of(*codes))


class DetectionMode(StrEnum):
    """Which signal mu was computed from."""

    TRANSMISSION = "transmission"
    """mu = ln(I0 / It)"""
    FLUORESCENCE = "fluorescence"
    """mu = If / I0"""
    ELECTRON_YIELD = "electron yield"
    """mu = Iy / I0"""
    REFERENCE = "reference"
    """mu = ln(It / Ir), the foil behind the sample"""
    MU = "mu"
    """mu from the file or the run"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The sample as the raw data state it; an empty string for what they do not state."""

    name: str = ""
    uid: str = ""
    composition: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorptionScan:
    """One X-ray absorption scan as counted, on an ascending energy axis.

    Built by `bluesky_xpdml.documents.absorption_scan`. Has at least one of `it`, `fluorescence` and `mu`.
    """

    energy: FloatArray
    """Photon energy by the monochromator [eV], strictly ascending, (n,)."""
    i0: FloatArray | None = None
    """Incident intensity [counts or any current unit], (n,)."""
    it: FloatArray | None = None
    """Transmitted intensity [unit of i0], (n,)."""
    ir: FloatArray | None = None
    """Intensity behind the reference foil [unit of i0], (n,)."""
    fluorescence: FloatArray | None = None
    """Fluorescence intensity, summed over detector elements [counts], (n,)."""
    fluorescence_elements: Mapping[str, FloatArray] = field(default_factory=dict)
    """The same by detector element, of which the reduction sums those that work; empty if unknown."""
    electron_yield: FloatArray | None = None
    """Electron yield [unit of i0], (n,)."""
    mu: FloatArray | None = None
    """Absorption from raw data without counts [any unit], (n,)."""
    element: str = ""
    """Absorbing element, a chemical symbol; empty if unknown."""
    edge: str = ""
    """Absorption edge, `K`, `L3`, ...; empty if unknown."""
    sample: Sample = field(default_factory=Sample)
    raw_uids: tuple[str, ...] = ()
    """Start uids of the raw runs; empty for files."""
    source: str = ""
    """File name or scan id, for people."""
    mono: str = ""
    """Name of the monochromator, under which calibrations are stored; empty if unknown."""
    time: float | None = None
    """Start of the scan [s since 1970]; None if unknown."""
    completeness: float = 1.0
    """Measured fraction of the planned points, 0 to 1."""
    quality: Quality = field(default_factory=Quality)
    """Remarks from building the record."""


class AxisSource(StrEnum):
    """Source of the energy calibration of a spectrum."""

    REFERENCE = "reference"
    """The metal foil in the reference channel of the same scan."""
    GIVEN = "given"
    """An offset stated by the user."""
    STORED = "stored"
    """The last foil that was measured with the same monochromator."""
    NONE = "none"
    """None; the energies are those of the monochromator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyAxis:
    """How the energy axis was put on the scale of the metal foils (Kraft et al. 1996)."""

    source: AxisSource = AxisSource.NONE
    offset: float = 0.0
    """Added to the raw energies [eV]."""
    uncertainty: float = 2.0
    """Standard uncertainty of the axis after the shift [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Xanes:
    """A reduced absorption spectrum. All arrays have the shape (n,)."""

    energy: FloatArray
    """Energy on the calibrated axis [eV], strictly ascending."""
    mu: FloatArray
    """Absorption [any unit]."""
    norm: FloatArray
    """(mu - pre_edge) / edge_step."""
    flat: FloatArray
    """norm with the slope and curvature of the post-edge removed above e0."""
    pre_edge: FloatArray
    """Pre-edge line [unit of mu]."""
    post_edge: FloatArray
    """Post-edge polynomial [unit of mu]."""
    e0: float
    """Edge energy: the largest first derivative [eV], on the calibrated axis."""
    edge_step: float
    """post_edge - pre_edge at e0 [unit of mu], positive."""
    element: str
    edge: str
    mode: DetectionMode
    axis: EnergyAxis
    settings: Mapping[str, float | int | str | tuple[float, float]]
    """The resolved settings of the reduction, without `auto`."""
    sample: Sample = field(default_factory=Sample)
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 1.0
    mu_variance: FloatArray | None = None
    """Variance of mu if points or repeats were averaged [unit of mu squared]."""
    quality: Quality = field(default_factory=Quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One predicted number with its 90 % interval."""

    value: float
    """Posterior mean, or regression estimate [unit]."""
    low: float
    """Lower end of the 90 % interval [unit]."""
    high: float
    """Upper end of the 90 % interval [unit]."""
    unit: str
    """`e` for oxidation state, `1` for counts, `angstrom` for lengths."""
    probabilities: Mapping[str, float] | None = None
    """Probability of each class by its name (`"2"`, `"3"`); None for a regression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """The bundle that made a prediction."""

    name: str
    version: int
    sha256: str
    """Hash of the bundle's manifest, which holds the hash of every other file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The result of one measurement, as published. A failure is a prediction without descriptors."""

    technique: Technique
    element: str
    edge: str
    quality: Quality
    descriptors: Mapping[Descriptor, Estimate] = field(default_factory=dict)
    models: tuple[ModelReference, ...] = ()
    sample: Sample = field(default_factory=Sample)
    origin: Origin = field(default_factory=Origin)
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 1.0
    settings: Mapping[str, object] = field(default_factory=dict)
    """The resolved settings of reduction and models, as plain JSON values."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Numbers that explain the answer (edge position, edge-model answer, sensitivity to the axis)."""
    xanes: Xanes | None = None
    """The spectrum that was analysed."""
    pdf: "PairDistribution | None" = None
    """The pair distribution function that was analysed."""
    explanation: Explanation | None = None
    """None unless explanations are requested."""

    def with_quality(self, quality: Quality) -> "Prediction":
        """Return the same prediction under another quality record."""
        return replace(self, quality=quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMeasurement:
    """One simulated sample that was measured, predicted, and read back from Tiled."""

    technique: Technique
    name: str
    """Of the sample."""
    element: str
    truth: Mapping[Descriptor, float]
    raw_uid: str
    start: Mapping[str, Any]
    """Start document of the derived run, as Tiled returns it."""
    seconds_stop_to_found: float
    """From the stop document of the raw run to the prediction being found in Tiled [s]."""
    x: FloatArray
    """Energy [eV] or distance [angstrom] as read back from Tiled, (n,); empty if the prediction failed."""
    curve: FloatArray
    """Flattened spectrum or G(r) as read back from Tiled, (n,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Geometry of the area detector, in the convention of pyFAI."""

    distance: float
    """Distance from the sample to the point of normal incidence [m]."""
    poni1: float
    """Point of normal incidence along the rows' axis [m]."""
    poni2: float
    """Point of normal incidence along the columns' axis [m]."""
    rot1: float
    """Rotations of the detector [rad]."""
    rot2: float
    rot3: float
    wavelength: float
    """Of the X-rays [m]."""
    pixel1: float
    """Height of a pixel [m]."""
    pixel2: float
    """Width of a pixel [m]."""
    shape: tuple[int, int] | None = None
    """Rows and columns of the detector; if None, any image fits."""
    orientation: int = 3
    """Corner of the first pixel, 1 to 4 as in pyFAI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringFrame:
    """One detector image, or the average of several, uncorrected."""

    image: NDArray[Any]
    """Counts per frame [detector units], any real dtype, (rows, columns)."""
    n_frames: int = 1
    """Number of frames averaged in `image`."""
    dark: FloatArray | None = None
    """Average dark frame of the same exposure [detector units], (rows, columns); None if there is none."""
    dark_variance: FloatArray | None = None
    """Variance of a single dark frame [detector units squared], (rows, columns); the counts if None."""
    n_dark: int = 1
    """Number of frames averaged in `dark`."""
    mask: NDArray[np.bool_] | None = None
    """True for bad pixels, (rows, columns)."""
    calibration: Calibration | None = None
    sample: Sample = field(default_factory=Sample)
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 1.0
    quality: Quality = field(default_factory=Quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringPattern:
    """Scattered intensity over the momentum transfer. Arrays have the shape (n,)."""

    q: FloatArray
    """Momentum transfer [1/angstrom], strictly ascending, positive."""
    intensity: FloatArray
    """Intensity with the corrections that the settings state [any unit]."""
    variance: FloatArray | None = None
    """Of the intensity [its unit squared]; None if unknown."""
    wavelength: float | None = None
    """Of the X-rays [angstrom]; None if unknown."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings of the integration, as plain JSON values; empty for a pattern from a file."""
    sample: Sample = field(default_factory=Sample)
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 1.0
    quality: Quality = field(default_factory=Quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDistribution:
    """A pair distribution function over r, (m,), and its curves over q, (n,), which files may lack."""

    r: FloatArray
    """Distances [angstrom], strictly ascending."""
    g: FloatArray
    """Reduced pair distribution function G(r) [1/angstrom^2], not on an absolute scale."""
    g_variance: FloatArray | None = None
    """[1/angstrom^4]; neighbouring points are correlated."""
    q: FloatArray | None = None
    """Momentum transfer from q_min to q_max_inst [1/angstrom]."""
    intensity: FloatArray | None = None
    """Intensity without background [electron units per atom, up to the scale]."""
    intensity_variance: FloatArray | None = None
    s: FloatArray | None = None
    """Structure function S(Q) = 1 + F(Q) / Q [1]."""
    s_variance: FloatArray | None = None
    f: FloatArray | None = None
    """Reduced structure function F(Q) [1/angstrom]."""
    f_variance: FloatArray | None = None
    composition: Mapping[str, float] = field(default_factory=dict)
    """Fraction of the atoms by element; empty if unknown."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The resolved settings, as plain JSON values, without `auto`."""
    scale_uncertainty: float | None = None
    """Relative standard uncertainty of the scale of G(r); None if unknown."""
    sample: Sample = field(default_factory=Sample)
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 1.0
    quality: Quality = field(default_factory=Quality)
