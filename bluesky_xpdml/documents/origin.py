"""What a prediction carries over from the start document of its raw run."""

from collections.abc import Mapping

from bluesky_xpdml.documents.lookup import look_up, look_up_text
from bluesky_xpdml.origin_records import TRIAL, Origin

BEAMLINE = ("beamline_id", "beamline", "beamline.name", "XDI.Beamline.name", "Beamline.name")
PROPOSAL = (
    "proposal.proposal_id",
    "proposal_id",
    "proposal.id",
    "proposal",
    "gup",
    "GUP",
    "XDI.Facility.GUP",
    "data_session",
)


def origin_of(start: Mapping[str, object], *, carry: tuple[str, ...] = ()) -> Origin:
    """Return what a start document says that its prediction carries on.

    Parameters
    ----------
    start
        The start document of the raw run.
    carry
        Further entries to carry on, dotted paths; those that hold no text or whole number are left out.

    Examples
    --------
    >>> start = {"uid": "a", "time": 12.5, "proposal": {"proposal_id": 312345}, "furnace": {"zone": "B"}}
    >>> origin = origin_of(start, carry=("furnace.zone",))
    >>> origin.time, origin.proposal, origin.keys
    (12.5, '312345', {'furnace.zone': 'B'})
    """
    time, trial = start.get("time"), look_up(start, (TRIAL,))
    said = {key: look_up_text(start, (key,)) for key in carry}
    return Origin(
        time=float(time) if isinstance(time, int | float) and not isinstance(time, bool) else None,
        beamline=look_up_text(start, BEAMLINE),
        proposal=look_up_text(start, PROPOSAL),
        scan_id=look_up_text(start, ("scan_id",)),
        trial=dict(trial) if isinstance(trial, Mapping) else {},
        keys={key: text for key, text in said.items() if text},
    )
