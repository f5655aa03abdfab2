"""The fixed words of the package: techniques, modalities, descriptors and reason codes.

Each word stands here once, with its unit and its label. Documents, settings and bundles hold the values of
these enums as plain text; code compares the members.
"""

from enum import StrEnum
from typing import NamedTuple, Self

ANALYSIS_REVISION = 2
"""Version of the analysis, part of the identity of each derived run. Raise it when a change of the reduction
or of the answers gives other results for the same data. Runs that state none have revision 1."""


class Technique(StrEnum):
    """What was measured, as a derived run states it."""

    XANES = "xanes"
    PDF = "pdf"
    DPDF = "dpdf"
    """Differential PDF: the pairs with one metal."""
    XANES_PDF = "xanes+pdf"
    XANES_DPDF = "xanes+dpdf"

    @property
    def parts(self) -> "tuple[Technique, ...]":
        """The single techniques that a joint one combines; itself for a single one.

        Examples
        --------
        >>> Technique.XANES_PDF.parts
        (<Technique.XANES: 'xanes'>, <Technique.PDF: 'pdf'>)
        """
        return tuple(Technique(part) for part in self.split("+"))


class Modality(StrEnum):
    """Which input a bundle was trained on; the second part of a bundle's name."""

    XANES = "xanes"
    PDF = "pdf"
    """All pairs."""
    DPDF = "dpdf"
    """Pairs with the metal, at the q_max of ordinary measurements: what the literature simulates."""
    DPDF_ANOMALOUS = "dpdf_anomalous"
    """The difference of two patterns below the metal's K edge, at the q_max which that energy allows."""
    XANES_PDF = "xanes+pdf"
    XANES_DPDF = "xanes+dpdf"

    @classmethod
    def curves(cls) -> tuple[Self, ...]:
        """Return the modalities of one pair distribution function."""
        return (cls.PDF, cls.DPDF, cls.DPDF_ANOMALOUS)

    @classmethod
    def joint(cls) -> tuple[Self, ...]:
        """Return the modalities of a spectrum with a pair distribution function."""
        return (cls.XANES_PDF, cls.XANES_DPDF)

    @property
    def technique(self) -> Technique:
        """Technique under which a prediction is published."""
        return Technique.DPDF if self is Modality.DPDF_ANOMALOUS else Technique(self)

    @property
    def curve(self) -> "Modality":
        """The pair distribution function among the inputs; `XANES` if there is none."""
        return Modality(self.rpartition("+")[2])

    @property
    def edge(self) -> str:
        """Absorption edge that the measurement uses; empty if it uses none."""
        return "" if self in {Modality.PDF, Modality.DPDF} else "K"


class Descriptor(StrEnum):
    """What is predicted of the metal cation."""

    OXIDATION_STATE = "oxidation_state"
    COORDINATION_NUMBER = "coordination_number"
    BOND_LENGTH = "bond_length"
    """Mean distance to the nearest neighbours."""
    GEOMETRY = "geometry"
    """Number of corners of the likeliest polyhedron: T4, S5 or O6."""
    OCN = "ocn"
    """Mean coordination number of the neighbouring oxygen atoms."""
    NNRS = "nnrs"
    """Standard deviation of the distances to the nearest neighbours."""
    MOOD = "mood"
    """Smallest distance between two oxygen neighbours."""

    @classmethod
    def main(cls) -> tuple[Self, ...]:
        """Return the three descriptors that every bundle answers."""
        return (cls.OXIDATION_STATE, cls.COORDINATION_NUMBER, cls.BOND_LENGTH)

    @classmethod
    def surroundings(cls) -> tuple[Self, ...]:
        """Return the descriptors that one forest answers at once."""
        return (cls.OCN, cls.NNRS, cls.MOOD)

    @property
    def unit(self) -> str:
        """Unit as published: `e`, `1` or `angstrom`."""
        return _SHOWN[self].unit

    @property
    def label(self) -> str:
        """Name for people, without the unit."""
        return _SHOWN[self].label

    @property
    def symbol(self) -> str:
        """Unit for people; empty if the quantity needs none."""
        return _SHOWN[self].symbol

    @property
    def heading(self) -> str:
        """Name for people, with the unit: the heading of a column or an axis.

        Examples
        --------
        >>> Descriptor.BOND_LENGTH.heading, Descriptor.COORDINATION_NUMBER.heading
        ('bond length [Å]', 'coordination number')
        """
        shown = _SHOWN[self]
        return f"{shown.label} [{shown.symbol}]" if shown.symbol else shown.label


class _Shown(NamedTuple):
    label: str
    unit: str
    symbol: str = ""


_SHOWN = {
    Descriptor.OXIDATION_STATE: _Shown("oxidation state", "e"),
    Descriptor.COORDINATION_NUMBER: _Shown("coordination number", "1"),
    Descriptor.BOND_LENGTH: _Shown("bond length", "angstrom", "Å"),
    Descriptor.GEOMETRY: _Shown("polyhedron", "1"),
    Descriptor.OCN: _Shown("mean coordination number of the neighbours", "1"),
    Descriptor.NNRS: _Shown("spread of the bond lengths", "angstrom", "Å"),
    Descriptor.MOOD: _Shown("smallest O-O distance", "angstrom", "Å"),
}


class ReasonCode(StrEnum):
    """Why a result is doubtful or missing, or what was noticed: published beside the text of each reason."""

    # Documents and files
    MISSING_DATA = "missing-data"
    UNREADABLE_FILE = "unreadable-file"
    INVALID_DOCUMENT = "invalid-document"
    INTERPRETED_INPUT = "interpreted-input"
    """How ambiguous input was read: columns, units, dropped rows, the chosen sweep."""
    INCOMPLETE = "incomplete"
    """Fewer points or frames than planned, or a run that did not succeed."""
    PLAN_UNKNOWN = "plan-unknown"
    """The run does not state how many points it planned."""
    DOCUMENTS_LOST = "documents-lost"
    """Documents were missing, late or duplicated."""
    QUEUE_FULL = "queue-full"
    NO_STOP = "no-stop"
    INTERNAL_ERROR = "internal-error"
    FILE_REFUSED = "file-refused"
    """A document names a file that may not be opened: outside the roots, no regular file, or too large."""
    TIME_LIMIT = "time-limit"
    """The analysis of a run took longer than it may."""
    MEMORY_LIMIT = "memory-limit"
    PROCESS_ENDED = "process-ended"
    """The process of the analysis crashed on a run."""
    # What was measured
    ELEMENT_MISSING = "element-missing"
    ELEMENT_FROM_EDGE = "element-from-edge"
    """Element or edge were found from the spectrum."""
    ELEMENT_AMBIGUOUS = "element-ambiguous"
    ELEMENT_CONTRADICTED = "element-contradicted"
    COMPOSITION_MISSING = "composition-missing"
    # Energy axis and XANES reduction
    AXIS_UNCALIBRATED = "axis-uncalibrated"
    AXIS_DOUBTFUL = "axis-doubtful"
    CALIBRATION_STORED = "calibration-stored"
    REDUCTION_FAILED = "reduction-failed"
    EDGE_NOT_COVERED = "edge-not-covered"
    EDGE_STEP = "edge-step"
    NORMALISATION_RANGE = "normalisation-range"
    SHORT_POST_EDGE = "short-post-edge"
    """The scan ends near the edge: models that need the post-edge are uncertain."""
    POINTS_AVERAGED = "points-averaged"
    """A continuous scan was averaged on the grid of a step scan."""
    NOISE = "noise"
    GLITCH = "glitch"
    COARSE_STEPS = "coarse-steps"
    DETECTOR = "detector"
    """A channel is dead, saturated or negative, or another one was used."""
    SELF_ABSORPTION = "self-absorption"
    THICKNESS = "thickness"
    REPEATS_DISAGREE = "repeats-disagree"
    REPEATS_MERGED = "repeats-merged"
    # Total scattering
    DARK_MISSING = "dark-missing"
    BACKGROUND_MISSING = "background-missing"
    CALIBRATION_MISSING = "calibration-missing"
    CALIBRATION_CONTRADICTED = "calibration-contradicted"
    DETECTOR_MASK = "detector-mask"
    Q_RANGE = "q-range"
    VARIANCE_MISSING = "variance-missing"
    PATTERN_SCALE = "pattern-scale"
    SIGNAL_TO_NOISE = "signal-to-noise"
    # Models
    MODEL_MISSING = "model-missing"
    MODEL_DAMAGED = "model-damaged"
    FEATURES_NOT_COVERED = "features-not-covered"
    NOVEL = "novel"
    """Unlike what the model was trained on."""
    NOT_AN_OXIDE = "not-an-oxide"
    ANSWERS_DISAGREE = "answers-disagree"
    """Edge position, shape or techniques give different answers."""
    EDGE_IMPLAUSIBLE = "edge-implausible"
    COORDINATION_UNRELIABLE = "coordination-unreliable"
    OTHER_METAL = "other-metal"
    """The sample also contains a metal that was not answered for."""
    NOT_FINITE = "not-finite"
    NOT_EXPLAINED = "not-explained"
    # Pairing
    PAIR_UNCERTAIN = "pair-uncertain"
    PAIR_CONTRADICTED = "pair-contradicted"
    PAIR_CHOICE = "pair-choice"
    """Which of several answers were paired."""
    ACCESS_DIFFERS = "access-differs"
    """The raw runs of a joint answer share no access tag."""
    # Everything else
    EXTRA_MISSING = "extra-missing"
    """A package is not installed; the text says which extra brings it."""
    SETTINGS_INVALID = "settings-invalid"
    SIMULATION_FAILED = "simulation-failed"
    TRAINING_FAILED = "training-failed"
    PLANNING_FAILED = "planning-failed"
    PUBLISHING_FAILED = "publishing-failed"
    SOURCE_FAILED = "source-failed"
    UNSPECIFIED = "unspecified"
    """A reason that was read from a run of a version without codes."""


class Reason(str):
    """A reason as text for people, with its code for programs.

    Parameters
    ----------
    text
        What was noticed, expected and found, and what to do.
    code
        What kind of reason it is.

    Examples
    --------
    >>> reason = Reason("no foil in the reference channel", ReasonCode.AXIS_UNCALIBRATED)
    >>> print(reason, "|", reason.code)
    no foil in the reference channel | axis-uncalibrated
    """

    __slots__ = ("code",)
    code: ReasonCode

    def __new__(cls, text: str, code: ReasonCode = ReasonCode.UNSPECIFIED) -> Self:
        """Create a reason."""
        reason = super().__new__(cls, text)
        reason.code = code
        return reason

    def __reduce__(self) -> tuple[type["Reason"], tuple[str, ReasonCode]]:
        return Reason, (str(self), self.code)
