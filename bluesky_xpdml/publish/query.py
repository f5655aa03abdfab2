"""What predictions can be asked for by."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bluesky_xpdml.records import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Conditions that a prediction has to fulfil, all of them; an empty one asks nothing.

    Examples
    --------
    >>> reduced = Query(element="Fe", descriptors={"oxidation_state": (1.5, 2.5)}, verdicts=(Verdict.GOOD,))
    """

    raw_uid: str = ""
    """Start uid of any of its raw runs."""
    sample: str = ""
    """Name of the sample."""
    sample_uid: str = ""
    proposal: str = ""
    beamline: str = ""
    element: str = ""
    technique: str = ""
    campaign: str = ""
    """Of the planner that asked for the measurement."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Entries that the callback was told to carry, by dotted path."""
    descriptors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By name, the ends of a range, both within it [unit of the descriptor]."""
    verdicts: tuple[Verdict, ...] = ()
    """Any of these; empty for all."""
    after: float | None = None
    """Predicted at this time or later [s since 1970]."""
    before: float | None = None
    """Predicted before this time [s since 1970]."""
