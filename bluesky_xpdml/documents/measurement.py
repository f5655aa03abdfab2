"""One collected run, read once: what kind of measurement it is, what it states, and the records it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from bluesky_xpdml.documents.images import ImageMean
from bluesky_xpdml.documents.profile import Profile, look_up_text, resolve_profile
from bluesky_xpdml.documents.run import CollectedRun
from bluesky_xpdml.documents.scattering import (
    ScatteringRun,
    dark_of,
    is_scattering,
    scattering_from_run,
    scattering_sample,
)
from bluesky_xpdml.documents.start import (
    claims_absorption,
    claims_scattering,
    declared_mode,
    elements_of,
    is_dark,
    is_derived,
    origin_of,
    sample_of,
)
from bluesky_xpdml.documents.xas import holds_energy_scan, scans_in
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, Origin, Sample
from bluesky_xpdml.vocabulary import Technique

_T = TypeVar("_T")


class RunKind(StrEnum):
    """What a run is, by what it states and, if it states nothing, by what it holds."""

    ABSORPTION = "absorption"
    SCATTERING = "scattering"
    DARK = "dark frames"
    DERIVED = "derived"
    """Published by this package: analysing it would feed the answer back."""
    OTHER = "other"
    """Nothing that this package analyses."""


@dataclass(frozen=True)
class Measurement:
    """One run, read once. Records are parsed on first use and kept; what failed is in `error`, never raised.

    Built by `read_run`.
    """

    run: CollectedRun
    profile: Profile
    kind: RunKind
    origin: Origin

    @property
    def technique(self) -> Technique:
        """Technique of a failed prediction for this run."""
        is_image = self.kind in {RunKind.SCATTERING, RunKind.DARK}
        return Technique.PDF if is_image else Technique.XANES

    @cached_property
    def sample(self) -> Sample:
        """What the start document states about the sample."""
        sample = scattering_sample if self.technique is Technique.PDF else sample_of
        return sample(self.run.start, self.profile)

    @property
    def source(self) -> str:
        """Scan number or file name, for people."""
        return look_up_text(self.run.start, self.profile.start.source)

    @property
    def element(self) -> str:
        """Absorbing element as the start document writes it; empty if none is stated or for images."""
        keys = self.profile.start.element
        return look_up_text(self.run.start, keys) if self.technique is Technique.XANES else ""

    @property
    def edge(self) -> str:
        """Absorption edge as the start document writes it; empty if none is stated or for images."""
        keys = self.profile.start.edge
        return look_up_text(self.run.start, keys) if self.technique is Technique.XANES else ""

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Absorbing elements that the start document names."""
        return elements_of(self.run.start, self.profile)

    @property
    def claims_scattering(self) -> bool:
        """Whether the start document states total scattering; images may still be to come."""
        return claims_scattering(self.run.start, self.profile)

    @cached_property
    def declared_mode(self) -> DetectionMode | None:
        """Detection mode that the start document states; None if it states none or several."""
        return declared_mode(self.run.start, self.profile)

    @property
    def scans(self) -> tuple[AbsorptionScan, ...]:
        """First scan of each element, in the order of the elements: each is answered.

        Only the first if anything after it cannot be read; empty if nothing can be read.
        """
        if self.further_error is not None:
            return self._scans[:1]
        first: dict[str, AbsorptionScan] = {}
        for scan in self._scans:
            first.setdefault(scan.element, scan)
        return tuple(first.values())

    @property
    def repeats(self) -> tuple[AbsorptionScan, ...]:
        """Further sweeps of the elements in `scans`, to be merged with them as repeats."""
        if self.further_error is not None:
            return ()
        return tuple(scan for scan in self._scans if not any(scan is answered for answered in self.scans))

    @property
    def scattering(self) -> ScatteringRun | None:
        """Images with everything that belongs to them; None if they cannot be read."""
        return self._images[0]

    @property
    def dark(self) -> ImageMean | None:
        """Average dark frame of a run of dark frames; None if it cannot be read."""
        return self._dark[0]

    @property
    def error(self) -> XpdmlError | None:
        """Why the run cannot be read at all; None if it can, or holds nothing to read."""
        match self.kind:
            case RunKind.ABSORPTION:
                return None if self._scans else self._absorption[1]
            case RunKind.SCATTERING:
                return self._images[1]
            case RunKind.DARK:
                return self._dark[1]
        return None

    @property
    def further_error(self) -> XpdmlError | None:
        """Why scans after the first cannot be read; None if they can. Such a run is not merged."""
        return self._absorption[1] if self._scans else None

    @property
    def _scans(self) -> tuple[AbsorptionScan, ...]:
        return self._absorption[0]

    @cached_property
    def _absorption(self) -> tuple[tuple[AbsorptionScan, ...], XpdmlError | None]:
        found: list[AbsorptionScan] = []
        if self.kind is not RunKind.ABSORPTION:
            return (), None
        try:
            found.extend(scans_in(self.run, self.profile))
        except XpdmlError as error:
            return tuple(found), error
        return tuple(found), None

    @cached_property
    def _images(self) -> tuple[ScatteringRun | None, XpdmlError | None]:
        return self._parsed(scattering_from_run) if self.kind is RunKind.SCATTERING else (None, None)

    @cached_property
    def _dark(self) -> tuple[ImageMean | None, XpdmlError | None]:
        return self._parsed(dark_of) if self.kind is RunKind.DARK else (None, None)

    def _parsed(self, parse: Callable[[CollectedRun, Profile], _T]) -> tuple[_T | None, XpdmlError | None]:
        try:
            return parse(self.run, self.profile), None
        except XpdmlError as error:
            return None, error


def read_run(
    run: CollectedRun, profile: Profile | str = "auto", *, carry: tuple[str, ...] = ()
) -> Measurement:
    """Return one run with its kind and what it states; records are parsed on first use, and once.

    Never raises because of what the run, which may still be running, holds. The profile is a name, the path
    of its file, or `auto`: that by which the run was collected, else the one whose marks its start document
    contains (errors as of `load_profile`). `carry` names further entries of the start document that
    predictions carry on, dotted paths.
    """
    if profile == "auto" and run.profile is not None:
        profile = run.profile
    profile = resolve_profile(profile, run.start)
    origin = origin_of(run.start, carry=carry)
    return Measurement(run=run, profile=profile, kind=_kind(run, profile), origin=origin)


def _kind(run: CollectedRun, profile: Profile) -> RunKind:
    if is_derived(run.start):
        return RunKind.DERIVED
    is_absorption = claims_absorption(run.start, profile)
    if not run.streams:
        # A run that ended before it described anything is what its start document states.
        is_image = claims_scattering(run.start, profile) and not is_absorption
    else:
        is_image = is_scattering(run, profile)
        if is_image and holds_energy_scan(run, profile):
            return RunKind.ABSORPTION
    if is_image:
        return RunKind.DARK if is_dark(run.start, profile) else RunKind.SCATTERING
    if is_absorption or holds_energy_scan(run, profile):
        return RunKind.ABSORPTION
    return RunKind.OTHER
