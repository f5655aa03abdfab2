"""What a profile can say: dotted paths into the start document, and patterns of streams and data keys."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


def look_up(start: Mapping[str, object], paths: tuple[str, ...]) -> object:
    """Return the first value that a start document holds under one of the dotted paths; None where none does.

    Parameters
    ----------
    start
        The start document of the run.
    paths
        Keys; a dot steps into a mapping.

    Examples
    --------
    >>> look_up({"sample": {"name": "LFP-3"}}, ("sample_name", "sample.name"))
    'LFP-3'
    """
    for path in paths:
        value: object = start
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def look_up_text(start: Mapping[str, object], paths: tuple[str, ...]) -> str:
    """Return the first text or whole number under one of the dotted paths; empty where there is none.

    Parameters
    ----------
    start
        The start document of the run.
    paths
        Keys; a dot steps into a mapping.

    Examples
    --------
    >>> look_up_text({"sample": {"uid": 7}}, ("sample", "sample.uid"))
    '7'
    """
    for path in paths:
        value = look_up(start, (path,))
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def matching(patterns: tuple[str, ...], keys: list[str], element: str) -> list[str]:
    """Return the keys that the first fitting pattern fits, in their given order.

    Parameters
    ----------
    patterns
        Regular expressions for whole keys; `{element}` stands for the element, and such a pattern is
        passed over where the element is not known.
    keys
        Data keys of a stream.
    element
        Symbol of the absorbing element; empty where it is not known.

    Examples
    --------
    >>> matching(("{element}[0-9]", "i_?f"), ["Fe1", "Fe2", "If"], "Fe")
    ['Fe1', 'Fe2']
    """
    for pattern in patterns:
        if "{element}" in pattern and not element:
            continue
        expression = re.compile(pattern.replace("{element}", re.escape(element)), re.IGNORECASE)
        found = [key for key in keys if expression.fullmatch(key)]
        if found:
            return found
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKeys:
    """Where the start document holds what; dotted paths, tried in order."""

    element: tuple[str, ...]
    edge: tuple[str, ...]
    sample_name: tuple[str, ...]
    sample_uid: tuple[str, ...]
    sample_composition: tuple[str, ...]
    planned_points: tuple[str, ...]
    technique: tuple[str, ...]
    source: tuple[str, ...]
    mode: tuple[str, ...]
    e0: tuple[str, ...]
    """Energy of the edge as planned [eV]."""
    detector_elements: tuple[str, ...]
    """A list of the data keys that hold the fluorescence of the absorber, one a detector element."""
    mono: tuple[str, ...]
    """Name of the monochromator."""
    remarks: tuple[str, ...]
    """Remarks on the data that were made before, a list of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorptionKeys:
    """How the data keys of an absorption scan are called; patterns for whole keys, tried in order."""

    streams: tuple[str, ...]
    """Streams that are looked at first."""
    claims: str
    """Pattern that marks a run as absorption where its technique or plan name holds it."""
    ignore: str
    """Pattern of keys that are never a channel."""
    energy: tuple[str, ...]
    i0: tuple[str, ...]
    it: tuple[str, ...]
    ir: tuple[str, ...]
    fluorescence: tuple[str, ...]
    """One key is a sum; several of one pattern are the elements of a detector, corrected for dead time."""
    electron_yield: tuple[str, ...]
    mu: tuple[str, ...]
    offset: tuple[str, ...]
    """A pattern and what replaces it: the key of a channel becomes that of its offset in the configuration of
    the device. Empty where nothing is to be subtracted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlyKeys:
    """How a continuous scan is written: counted currents, encoder and triggers in streams of their own.

    `analog`, `encoder` and `triggers` hold patterns of data keys; no pattern of `analog`: no such scans.
    """

    analog: tuple[str, ...]
    """Tables of the digitised currents."""
    analog_fields: tuple[str, ...]
    """Columns of those tables where the data do not name them; the first is the time [s]."""
    channels: Mapping[str, str]
    """Which column is i0, it, ir, fluorescence or electron_yield."""
    offset: str
    """Start key of a channel's offset [mV]; {n} is the number of its column, from 1."""
    gain: str
    """Start key of a channel's gain [log10 of V/A]; {n} as before."""
    encoder: tuple[str, ...]
    """Tables of the encoder of the monochromator."""
    encoder_fields: tuple[str, ...]
    """Columns of those tables: ts_s [s], ts_ns [ns] and encoder [counts] are read."""
    encoder_bits: int
    """Counts above zero are negative ones of this many bits, wrapped; 0 where they are as they should be."""
    counts_per_degree: float
    """Of the encoder; its angle grows to the negative."""
    plane_distance: float
    """Of the monochromator's crystal [angstrom]."""
    angle_offset: tuple[str, ...]
    """Start keys of the angle that is added to the encoder's [deg]."""
    triggers: Mapping[str, str]
    """Table of trigger times by the stream of the detector that is triggered, both patterns."""
    trigger_fields: tuple[str, ...]
    """Columns of the table of triggers: timestamp [s] and transition (1 opens, 0 closes an exposure)."""
    elements: tuple[str, ...]
    """Fluorescence counts by detector element among the keys and columns of triggered detectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringKeys:
    """How a total-scattering run says what it holds: patterns, and dotted paths tried in order."""

    claims: str
    """Pattern that marks a run as total scattering where its technique or plan name holds it."""
    streams: tuple[str, ...]
    """Patterns of the streams of images; streams that one pattern fits are positions of the detector."""
    image: tuple[str, ...]
    """Patterns of the data keys that are images."""
    counting: str
    """Pattern of the images of photon-counting detectors, which have no dark."""
    dark_stream: str
    """Pattern of the stream of dark frames."""
    dark_uid: tuple[str, ...]
    """Where the run of the dark frames is named."""
    is_dark: tuple[str, ...]
    """Where a run says that it is one of dark frames."""
    calibration: tuple[str, ...]
    """Where the start document holds a calibration, or one for each stream."""
    calibration_stream: str
    """Pattern of the stream whose numbers are the calibration."""
    poni: tuple[str, ...]
    """Where a `.poni` file is named, or one for each stream."""
    mask_stream: str
    """Pattern of the stream of masks."""
    mask_key: str
    """Pattern of the data keys that are masks."""
    mask: tuple[str, ...]
    """Where a file with a mask is named, or one for each stream."""
    mask_good: int
    """The value of a good pixel, in the stream of masks and in files: 0 or 1."""
    composition: tuple[str, ...]
    """Where the composition is, a formula or a mapping."""
    wavelength: tuple[str, ...]
    """Where the wavelength is [angstrom]."""
    background_name: tuple[str, ...]
    """Where the sample name of the background run is."""
    background_uid: tuple[str, ...]
    """Where the uid of the background run is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The convention of one beamline, or of many."""

    name: str
    start: StartKeys
    absorption: AbsorptionKeys
    fly: FlyKeys
    scattering: ScatteringKeys
