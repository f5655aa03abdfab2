"""What the start document of an absorption run says: that it is one, of what, and how it was detected."""

import re
from collections.abc import Mapping

from bluesky_xpdml.documents.columns import real_number
from bluesky_xpdml.documents.profile_keys import Profile, look_up, look_up_text
from bluesky_xpdml.records import TRIAL, DetectionMode, Origin, Sample

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


_MODES = {
    "transmission": DetectionMode.TRANSMISSION,
    "fluorescence": DetectionMode.FLUORESCENCE,
    "reference": DetectionMode.REFERENCE,
    "yield": DetectionMode.ELECTRON_YIELD,
}
_SEVERAL = re.compile(r"[\s,;+/]+")


def claims_absorption(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a start document says that the run is an X-ray absorption measurement.

    It does where its technique or plan name says so, or where it names both an element and an edge.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> claims_absorption({"plan_name": "xafs"}, load_profile("generic"))
    True
    >>> claims_absorption({"plan_name": "count"}, load_profile("generic"))
    False
    """
    texts = (look_up(start, (path,)) for path in profile.start.technique)
    claim = re.compile(profile.absorption.claims, re.IGNORECASE)
    if any(isinstance(text, str) and claim.search(text) for text in texts):
        return True
    return bool(elements_of(start, profile) and look_up_text(start, profile.start.edge))


def elements_of(start: Mapping[str, object], profile: Profile) -> tuple[str, ...]:
    """Return the absorbers that a start document names, in its order; several where one scan covers several.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> elements_of({"element": ["Mn", "Fe"]}, load_profile("generic"))
    ('Mn', 'Fe')
    >>> elements_of({"element": "Fe"}, load_profile("generic"))
    ('Fe',)
    """
    return _listed(start, profile.start.element)


def edge_of(start: Mapping[str, object], profile: Profile, index: int = 0) -> str:
    """Return the edge that a start document names, of one of its absorbers; empty where it names none.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.
    index
        Which absorber; where fewer edges than absorbers are named, the last edge is that of the rest.
    """
    edges = _listed(start, profile.start.edge)
    return edges[min(index, len(edges) - 1)] if edges else ""


def planned_edge_energy(start: Mapping[str, object], profile: Profile) -> float | None:
    """Return the energy of the edge that a start document plans with [eV]; None where it says none.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> planned_edge_energy({"e0": "7112"}, load_profile("generic"))
    7112.0
    """
    for path in profile.start.e0:
        energy = real_number(look_up(start, (path,)))
        if energy is not None and energy > 0.0:
            return energy
    return None


def declared_mode(start: Mapping[str, object], profile: Profile) -> DetectionMode | None:
    """Return the detection mode that a start document names; None where it names none, or several.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> declared_mode({"plan_name": "scan_nd xafs fluorescence"}, load_profile("generic"))
    <DetectionMode.FLUORESCENCE: 'fluorescence'>
    """
    for path in profile.start.mode:
        text = look_up_text(start, (path,)).lower()
        found = [mode for word, mode in _MODES.items() if word in text]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def sample_of(start: Mapping[str, object], profile: Profile) -> Sample:
    """Return what a start document says of the sample.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> sample_of({"sample_name": "LFP-3"}, load_profile("generic")).name
    'LFP-3'
    """
    keys = profile.start
    return Sample(
        name=look_up_text(start, keys.sample_name),
        uid=look_up_text(start, keys.sample_uid),
        composition=look_up_text(start, keys.sample_composition),
    )


def _listed(start: Mapping[str, object], paths: tuple[str, ...]) -> tuple[str, ...]:
    value = look_up(start, paths)
    if isinstance(value, list | tuple) and len(value) > 1:
        return tuple(dict.fromkeys(text.strip() for text in value if isinstance(text, str) and text.strip()))
    return tuple(part for part in _SEVERAL.split(look_up_text(start, paths)) if part)
