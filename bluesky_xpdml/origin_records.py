"""Record of where a prediction comes from, beside the sample: what queries and planners ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TRIAL = "xpdml_trial"
"""Entry of a raw start document in which a planner says what it asked for: `campaign`, `id`, `parameters`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the raw run said of itself that its prediction carries on; an empty string where it said nothing.

    Readers of predictions never open raw runs: what they need of them stands here.
    """

    time: float | None = None
    """When the raw run began [s since 1970]; None for files."""
    beamline: str = ""
    proposal: str = ""
    """Number or name of the proposal, else of the data session."""
    scan_id: str = ""
    trial: Mapping[str, object] = field(default_factory=dict)
    """What a planner asked for: `campaign`, `id` and `parameters`; empty where no planner asked."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Further entries of the start document that the user wants carried on, by dotted path."""
