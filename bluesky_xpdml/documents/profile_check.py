"""Report what a profile reads from a run, and what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.documents.profile import Profile, detect_profile, look_up, look_up_text
from bluesky_xpdml.documents.run import CollectedRun, Readings
from bluesky_xpdml.documents.scattering import image_keys
from bluesky_xpdml.documents.start import (
    claims_absorption,
    claims_scattering,
    declared_mode,
    edge_of,
    elements_of,
    planned_edge_energy,
)
from bluesky_xpdml.documents.xas import readings_of, scans_in
from bluesky_xpdml.errors import DocumentError

_CHANNELS = ("i0", "it", "ir", "fluorescence", "electron_yield", "mu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One item that a profile reads from a run."""

    what: str
    found: str
    """Value that is read; empty if there is none."""
    where: str = ""
    """Its key or stream, or the keys that were tried."""
    needed: bool = False
    """Whether there is no answer without it."""

    @property
    def is_missing(self) -> bool:
        """Whether a needed item is missing."""
        return self.needed and not self.found


def check_profile(run: CollectedRun, profile: Profile) -> tuple[Finding, ...]:
    """Return what a profile reads from a run, and what is missing."""
    found = [_technique(run, profile), *_stated_at_the_start(run, profile)]
    if claims_scattering(run.start, profile) and image_keys(run, profile):
        images = ", ".join(f"{key} in stream {stream}" for stream, key in image_keys(run, profile).items())
        return (*found, Finding(what="images", found=images, where="scattering.image"))
    return (*found, *_measured(run, profile))


def _technique(run: CollectedRun, profile: Profile) -> Finding:
    claims = [
        name
        for name, claimed in (
            ("absorption", claims_absorption(run.start, profile)),
            ("total scattering", claims_scattering(run.start, profile)),
        )
        if claimed
    ]
    detected = detect_profile(run.start).name
    claim = f"says it is {' and '.join(claims)}" if claims else "does not say what it is"
    keys = ", ".join(profile.start.technique)
    return Finding(what="run", found=f"{claim}; detected as {detected}", where=keys)


def _stated_at_the_start(run: CollectedRun, profile: Profile) -> Iterator[Finding]:
    start, keys = run.start, profile.start
    absorbs = not claims_scattering(start, profile) or claims_absorption(start, profile)
    mode, e0 = declared_mode(start, profile), planned_edge_energy(start, profile)
    planned = look_up(start, keys.planned_points)
    for what, text, paths, needed in (
        ("element", ", ".join(elements_of(start, profile)), keys.element, absorbs),
        ("edge", edge_of(start, profile), keys.edge, absorbs),
        ("sample", look_up_text(start, keys.sample_name), keys.sample_name, False),
        ("composition", look_up_text(start, keys.sample_composition), keys.sample_composition, False),
        ("planned points", "" if planned is None else str(planned), keys.planned_points, False),
        ("detection mode", "" if mode is None else str(mode), keys.mode, False),
        ("planned edge energy", "" if e0 is None else f"{e0:g} eV", keys.e0, False),
        ("monochromator", look_up_text(start, keys.mono), keys.mono, False),
    ):
        yield Finding(what=what, found=text, where=", ".join(_holding(run, paths) or paths), needed=needed)


def _holding(run: CollectedRun, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path that is read: the first that holds something."""
    return next(((path,) for path in paths if look_up(run.start, (path,)) is not None), ())


def _measured(run: CollectedRun, profile: Profile) -> Iterator[Finding]:
    try:
        readings = readings_of(run, profile, next(iter(elements_of(run.start, profile)), ""))
    except DocumentError as error:
        yield Finding(what="energy and channels", found="", where=str(error), needed=True)
    else:
        yield from _channels(readings)
    try:
        scans = tuple(scans_in(run, profile))
    except DocumentError as error:
        yield Finding(what="absorption scan", found="", where=str(error), needed=True)
        return
    for scan in scans:
        text = f"{scan.energy.size} points, {scan.energy[0]:.1f} to {scan.energy[-1]:.1f} eV"
        text += f", {scan.completeness:.0%} complete"
        remarks = "; ".join(scan.quality.reasons)
        yield Finding(what="absorption scan", found=text, where=remarks, needed=True)


def _channels(readings: Readings) -> Iterator[Finding]:
    known = readings.energy[np.isfinite(readings.energy)]
    text = f"{known.min():g} to {known.max():g} {readings.unit}" if known.size else ""
    yield Finding(what="energy", found=text, where=readings.names["energy"], needed=True)
    for channel in _CHANNELS:
        values = readings.channels.get(channel)
        source = readings.names.get(channel, "")
        if channel == "fluorescence" and readings.elements:
            yield Finding(what=channel, found=f"{len(readings.elements)} detector elements", where=source)
        elif values is None:
            yield Finding(what=channel, found="", where=f"absorption.{channel}")
        else:
            finite = values[np.isfinite(values)]
            text = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "no number"
            yield Finding(what=channel, found=text, where=source)
