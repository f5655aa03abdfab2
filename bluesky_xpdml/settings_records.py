"""Records of the settings of a beamtime, one for each section of the settings file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.records import Calibration
from bluesky_xpdml.reduction.image import ImageSettings
from bluesky_xpdml.reduction.pdf import PdfSettings
from bluesky_xpdml.reduction.repeats import RepeatSettings
from bluesky_xpdml.settings_keys import (
    Key,
    Section,
    read_duration,
    read_path,
    read_poni,
    read_roots,
)
from bluesky_xpdml.vocabulary import Modality, Technique


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringSettings:
    """How total-scattering runs are reduced.

    Examples
    --------
    >>> ScatteringSettings(live=True).live_interval
    2.0
    """

    image: Annotated[ImageSettings, Section("image")] = field(default_factory=ImageSettings)
    """How images are integrated."""
    pdf: Annotated[PdfSettings, Section("pdf")] = field(default_factory=PdfSettings)
    """How patterns become G(r)."""
    calibration: Annotated[Calibration | None, Key(name="scattering.poni", read=read_poni)] = None
    """For runs that bring none, in the file the path of a `.poni` file; if None, such runs fail."""
    background: str = ""
    """Uid or sample name of the background run, for runs that name none."""
    root_map: Annotated[Mapping[str, str], Key(name="roots", read=read_roots)] = field(default_factory=dict)
    """Folder here by folder there. If there are any, files that documents name are opened only in these
    folders here; without, `xpdml watch` opens none. Both are the same if a folder has the same name here."""
    live: Annotated[bool, Key(name="live.scattering")] = False
    """Whether partial results are published while a run goes on, as runs of the purpose `xpdml.live`."""
    live_interval: Annotated[float, Key(name="live.scattering_interval", read=read_duration)] = 2.0
    """Least time between two partial results of a run [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What is published of absorption runs while they go on; total scattering has `ScatteringSettings.live`.

    Examples
    --------
    >>> LiveSettings(xanes=True).interval
    2.0
    """

    xanes: bool = False
    """Whether absorption scans are answered while they go on, as runs of the purpose `xpdml.live`."""
    interval: Annotated[float, Key(name="live.xanes_interval", read=read_duration)] = 2.0
    """Least time between two answers for a scan [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSettings:
    """Which runs are repeats of one another, and how they are merged.

    Raises
    ------
    SettingsError
        If the time is not positive, or a series could not hold two repeats.

    Examples
    --------
    >>> SeriesSettings(within=1800.0).at_most
    50
    """

    within: Annotated[float, Key(read=read_duration)] = 4.0 * 3600.0
    """A run belongs to the series of its sample if it began within this time of the run before [s]."""
    at_most: int = 50
    """Repeats of one series; the next one begins another."""
    merging: Annotated[RepeatSettings, Section("repeats")] = field(default_factory=RepeatSettings)
    """How repeats are aligned, and which are left out."""

    def __post_init__(self) -> None:
        if not self.within > 0.0:
            raise SettingsError(f"expected a positive time between repeats [s], found {self.within:g}")
        if self.at_most < 2:
            raise SettingsError(f"expected at least 2 repeats in a series, found {self.at_most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What the analysis of one run may take; a run that takes more fails with the reason.

    Raises
    ------
    SettingsError
        If a limit is not positive.

    Examples
    --------
    >>> LimitSettings(time=10.0).memory
    1000000000.0
    """

    time: Annotated[float, Key(read=read_duration)] = 60.0
    """Longest work on one run, reading its files included [s]."""
    memory: float = 1e9
    """Most memory that a run may take in addition to that of the program [bytes]."""
    isolated: bool = True
    """Whether the analysis runs in a process of its own, which is needed to enforce the limits."""

    def __post_init__(self) -> None:
        if not (self.time > 0.0 and self.memory > 0.0):
            raise SettingsError(f"expected positive limits, found {self.time:g} s and {self.memory:g} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingSettings:
    """Which runs are of one sample, and which joint answer they get.

    Raises
    ------
    SettingsError
        If the time is not positive, or the modality is not a joint one.

    Examples
    --------
    >>> PairingSettings(within=1800.0).modality
    <Modality.XANES_PDF: 'xanes+pdf'>
    """

    within: Annotated[float, Key(read=read_duration)] = 4.0 * 3600.0
    """Raw runs belong together if they began within this time of each other, in either order [s]."""
    modality: Modality = Modality.XANES_PDF
    """`xanes+pdf` or `xanes+dpdf`."""
    key: str = ""
    """Entry of the start documents that tells samples apart, a dotted path that callbacks carry; if empty,
    the sample does."""

    def __post_init__(self) -> None:
        if not self.within > 0.0:
            raise SettingsError(
                f"expected a positive time between runs of one sample [s], found {self.within}"
            )
        if self.modality not in Modality.joint():
            known = ", ".join(Modality.joint())
            raise SettingsError(f"expected one of {known} as what is paired, found {self.modality!r}")
        object.__setattr__(self, "modality", Modality(self.modality))

    @property
    def techniques(self) -> tuple[Technique, Technique]:
        """Of the two answers that are paired: the spectrum's, then the other's."""
        return Technique.XANES, self.modality.curve.technique


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSettings:
    """Where derived runs wait until the server has them.

    Raises
    ------
    SettingsError
        If the limit is not positive.

    Examples
    --------
    >>> OutboxSettings(limit=1e8).enabled
    True
    """

    enabled: bool = True
    """Whether derived runs are written to the disk first, so that none is lost if the server is away."""
    folder: Annotated[Path | None, Key(read=read_path)] = None
    """Folder above the outboxes, one for each server and container; if None, the user's state folder,
    `$XDG_STATE_HOME/xpdml` or `~/.local/state/xpdml`."""
    limit: float = 2e9
    """Largest size of what waits [bytes]; then partial answers are dropped, and new answers refused."""

    def __post_init__(self) -> None:
        if not self.limit > 0.0:
            raise SettingsError(f"expected a positive size of the outbox [bytes], found {self.limit:g}")
