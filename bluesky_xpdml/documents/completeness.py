"""How much of its plan a run measured, and what its start and stop say against it."""

from collections.abc import Mapping

import numpy as np

from bluesky_xpdml.documents.profile_keys import Profile, look_up
from bluesky_xpdml.documents.run import CollectedRun
from bluesky_xpdml.records import FloatArray, Quality

_MOTOR_TOLERANCE = 0.98
"""A motor stops within its tolerance, not at the planned number."""


def completeness(
    run: CollectedRun, profile: Profile, energy: FloatArray, n_points: int | None
) -> tuple[float, Quality]:
    """Return the measured fraction of the plan, by points and by range, and what there is to say of it.

    Stop documents are not asked: those of runs that were stopped early say success all the same.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    energy
        Energies as they were measured, in the unit of the plan, (n,).
    n_points
        Points that were measured; None where points are not what was planned.
    """
    planned = look_up(run.start, profile.start.planned_points)
    fractions = {}
    if isinstance(planned, int) and not isinstance(planned, bool) and planned > 0 and n_points is not None:
        fractions[f"{n_points} of {planned} planned points were measured"] = n_points / planned
    fractions |= _covered_range(run, energy)
    if not fractions:
        return 1.0, Quality().note("the run does not say how many points it planned")
    said, fraction = min(fractions.items(), key=lambda item: item[1])
    return (1.0, Quality()) if fraction >= 1.0 else (fraction, Quality().suspect(said))


def _covered_range(run: CollectedRun, energy: FloatArray) -> dict[str, float]:
    """Return the fraction of the planned range that was reached, where the plan was one straight scan."""
    pattern = run.start.get("plan_pattern_args")
    args = pattern.get("args") if isinstance(pattern, Mapping) else None
    known = energy[np.isfinite(energy)]
    if not isinstance(args, list | tuple) or len(args) != 3 or known.size == 0:
        return {}
    first, last = args[1], args[2]
    if not all(isinstance(end, int | float) and np.isfinite(end) for end in (first, last)) or first == last:
        return {}
    low, high = sorted((float(first), float(last)))
    covered = max(min(float(known.max()), high) - max(float(known.min()), low), 0.0) / (high - low)
    if covered >= _MOTOR_TOLERANCE:
        return {}
    return {f"{float(known.min()):g} to {float(known.max()):g} of {low:g} to {high:g} was scanned": covered}


def said_before(run: CollectedRun, profile: Profile) -> tuple[str, ...]:
    """Return the remarks that the start document brings along.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    """
    remarks = look_up(run.start, profile.start.remarks)
    return (
        tuple(text for text in remarks if isinstance(text, str)) if isinstance(remarks, list | tuple) else ()
    )


def exit_remarks(run: CollectedRun) -> tuple[str, ...]:
    """Return what the stop document says against the run.

    Parameters
    ----------
    run
        The collected run.
    """
    if run.stop is None:
        return ("the run has no stop document",)
    status, reason = run.stop.get("exit_status"), run.stop.get("reason")
    if isinstance(status, str) and status == "success":
        return ()
    because = f": {reason}" if isinstance(reason, str) and reason else ""
    return (f"the run ended with exit status {str(status)[:40]}{because[:200]}",)
