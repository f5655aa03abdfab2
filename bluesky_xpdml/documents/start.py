"""What a start document states: technique, absorbing element, sample, detection mode and origin."""

import re
from collections.abc import Mapping

from bluesky_xpdml.documents.columns import real_number
from bluesky_xpdml.documents.profile import Profile, look_up, look_up_text
from bluesky_xpdml.records import PURPOSE, TRIAL, DetectionMode, Origin, Sample

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
_MODES = {
    "transmission": DetectionMode.TRANSMISSION,
    "fluorescence": DetectionMode.FLUORESCENCE,
    "reference": DetectionMode.REFERENCE,
    "yield": DetectionMode.ELECTRON_YIELD,
}
_SEPARATORS = re.compile(r"[\s,;+/]+")


def origin_of(start: Mapping[str, object], *, carry: tuple[str, ...] = ()) -> Origin:
    """Return the entries of a start document that its prediction carries on.

    `carry` names further ones, dotted paths; those that hold no text or whole number are left out.
    """
    time, trial = start.get("time"), look_up(start, (TRIAL,))
    carried = {key: look_up_text(start, (key,)) for key in carry}
    return Origin(
        time=None if isinstance(time, str) else real_number(time),
        beamline=look_up_text(start, BEAMLINE),
        proposal=look_up_text(start, PROPOSAL),
        scan_id=look_up_text(start, ("scan_id",)),
        trial=dict(trial) if isinstance(trial, Mapping) else {},
        keys={key: text for key, text in carried.items() if text},
        access_tags=_access_tags(start.get("tiled_access_tags")),
    )


def _access_tags(stated: object) -> tuple[str, ...]:
    """Return the access tags of a run, in which entries that are no text do not count."""
    tags = stated if isinstance(stated, list | tuple) else ()
    return tuple(tag for tag in tags if isinstance(tag, str) and tag)


def is_derived(start: Mapping[str, object]) -> bool:
    """Return whether a run was published by this package: analysing it would feed the answer back."""
    purpose = start.get("purpose")
    return isinstance(purpose, str) and purpose.startswith(PURPOSE)


def claims_absorption(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a run states that it is an absorption scan, or names both an element and an edge."""
    if names_technique(start, profile, profile.absorption.claims):
        return True
    return bool(elements_of(start, profile) and look_up_text(start, profile.start.edge))


def claims_scattering(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a run states that it is total scattering.

    It does if its technique or plan name says so, if it holds a calibration, names its dark run or is one, or
    if the beamline measures nothing else.
    """
    keys = profile.scattering
    if keys.every_run or names_technique(start, profile, keys.claims):
        return True
    marks = (*keys.calibration, *keys.poni, *keys.dark_uid)
    return look_up(start, marks) is not None or is_dark(start, profile)


def names_technique(start: Mapping[str, object], profile: Profile, pattern: str) -> bool:
    """Return whether technique or plan name of a run match a pattern."""
    texts = (look_up(start, (path,)) for path in profile.start.technique)
    return any(isinstance(text, str) and re.search(pattern, text, re.IGNORECASE) for text in texts)


def is_dark(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a run states that it holds dark frames."""
    return look_up(start, profile.scattering.is_dark) is True


def elements_of(start: Mapping[str, object], profile: Profile) -> tuple[str, ...]:
    """Return the absorbing elements that a start document names, in its order; one scan may cover several."""
    return _listed(start, profile.start.element)


def edge_of(start: Mapping[str, object], profile: Profile, index: int = 0) -> str:
    """Return the edge that a start document names for one of its elements; the last holds for the rest."""
    edges = _listed(start, profile.start.edge)
    return edges[min(index, len(edges) - 1)] if edges else ""


def planned_edge_energy(start: Mapping[str, object], profile: Profile) -> float | None:
    """Return the edge energy that a start document plans with [eV]; None if it states none."""
    for path in profile.start.e0:
        energy = real_number(look_up(start, (path,)))
        if energy is not None and energy > 0.0:
            return energy
    return None


def declared_mode(start: Mapping[str, object], profile: Profile) -> DetectionMode | None:
    """Return the detection mode that a start document states; None if it states none, or several."""
    for path in profile.start.mode:
        text = look_up_text(start, (path,)).lower()
        found = [mode for word, mode in _MODES.items() if word in text]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def sample_of(start: Mapping[str, object], profile: Profile) -> Sample:
    """Return what a start document states about the sample."""
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
    return tuple(part for part in _SEPARATORS.split(look_up_text(start, paths)) if part)
