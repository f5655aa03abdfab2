"""From a collected run to a total-scattering measurement: images, dark, mask, calibration, sample.

What a run does not state stays empty; statements that contradict each other become a remark. Masks leave this
module in one sense, True = bad, whatever the convention of the run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents.assets import UNREADABLE
from bluesky_xpdml.documents.columns import real_number
from bluesky_xpdml.documents.image_files import read_plain_image
from bluesky_xpdml.documents.images import ImageMean
from bluesky_xpdml.documents.profile import Profile, look_up, look_up_text, matching
from bluesky_xpdml.documents.run import (
    CollectedRun,
    Stream,
    earlier_remarks,
    exit_remarks,
    incomplete,
    plan_unknown,
    planned_points,
)
from bluesky_xpdml.documents.start import claims_scattering
from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError, needs_extra
from bluesky_xpdml.files import (
    LARGEST_DECODED,
    LARGEST_TEXT_TABLE,
    FileAccess,
    refused,
    require_decoded,
    require_size,
    shown,
)
from bluesky_xpdml.records import Quality, Sample
from bluesky_xpdml.vocabulary import Reason, ReasonCode

Composition: TypeAlias = str | Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One position of the detector: the images of one stream with their calibration."""

    name: str
    """Name of the stream."""
    key: str
    """Data key of the images."""
    image: ImageMean
    calibration: Mapping[str, Any] | None = None
    """As the run spells it; None if it holds none."""
    poni: str | None = None
    """Text of the `.poni` file that the run names; None if it names none."""
    mask: NDArray[np.bool_] | None = None
    """True where a pixel is bad, (rows, columns)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringRun:
    """The total-scattering measurement that a run holds."""

    positions: tuple[Position, ...]
    """In the order of their names."""
    dark: ImageMean | None = None
    """Average dark frame of the run's own dark stream."""
    dark_uid: str = ""
    """Uid of the run of the dark frames; empty if none is named."""
    counting: bool = False
    """Whether the detector counts photons, and needs no dark."""
    composition: Composition = ""
    """Formula or mapping; empty if the run states none."""
    wavelength: float | None = None
    """[angstrom]; None if the run states none."""
    background_name: str = ""
    """Sample name of the background run; empty if none is named."""
    background_uid: str = ""
    sample: Sample = field(default_factory=Sample)
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 1.0
    quality: Quality = field(default_factory=Quality)


def is_scattering(run: CollectedRun, profile: Profile) -> bool:
    """Return whether a run is total scattering, dark or light: it states so and describes images."""
    return claims_scattering(run.start, profile) and bool(image_keys(run, profile))


def image_keys(run: CollectedRun, profile: Profile) -> dict[str, str]:
    """Return the data key of the images by stream, for the streams of the first pattern that fits any."""
    keys = profile.scattering
    for pattern in keys.streams:
        names = sorted(name for name in run.streams if re.fullmatch(pattern, name, re.IGNORECASE))
        found = {name: key for name in names for key in _images_in(run.streams[name], keys.image)[:1]}
        if found:
            return found
    return {}


def _images_in(stream: Stream, patterns: tuple[str, ...]) -> list[str]:
    """Return the keys that fit, those with images before those that are only described."""
    keys = matching(patterns, list(stream.data_keys))
    return sorted(keys, key=lambda key: (key not in stream.images, key))


def dark_of(run: CollectedRun, profile: Profile) -> ImageMean:
    """Return the average frame of a run of dark frames; a MissingDataError is raised if it has no image."""
    for name, key in image_keys(run, profile).items():
        image = run.streams[name].images.get(key)
        if image is not None:
            return image
    raise _no_image(run)


def scattering_from_run(run: CollectedRun, profile: Profile) -> ScatteringRun:
    """Return the total-scattering measurement that a run holds.

    A DocumentError is raised if it holds no image that could be read, or names a file that cannot be read.
    """
    keys = profile.scattering
    found = {name: key for name, key in image_keys(run, profile).items() if key in run.streams[name].images}
    if not found:
        raise _no_image(run)
    positions, remarks = _positions(run, profile, found)
    counting = all(re.fullmatch(keys.counting, key, re.IGNORECASE) for key in found.values())
    composition, wavelength = _composition(run.start, profile), _wavelength(run, profile)
    completeness, complete_quality = _completeness(run, profile, found)
    quality = Quality().suspect(*exit_remarks(run), *remarks).merge(complete_quality)
    return ScatteringRun(
        positions=positions,
        dark=_stream_image(run, keys.dark_stream, tuple(found.values())),
        dark_uid=look_up_text(run.start, keys.dark_uid),
        counting=counting,
        composition=composition,
        wavelength=wavelength,
        background_name=look_up_text(run.start, keys.background_name),
        background_uid=look_up_text(run.start, keys.background_uid),
        sample=scattering_sample(run.start, profile),
        raw_uids=(run.uid,),
        source=look_up_text(run.start, profile.start.source),
        completeness=completeness,
        quality=quality.note(*earlier_remarks(run, profile), *run.remarks()),
    )


def scattering_sample(start: Mapping[str, object], profile: Profile) -> Sample:
    """Return what a start document states about the sample, with the composition as a formula."""
    composition = _composition(start, profile)
    if isinstance(composition, Mapping):
        parts = (f"{symbol}{amount:g}" if amount != 1 else symbol for symbol, amount in composition.items())
        composition = " ".join(parts)
    return Sample(
        name=look_up_text(start, profile.start.sample_name),
        uid=look_up_text(start, profile.start.sample_uid),
        composition=composition,
    )


def _positions(
    run: CollectedRun, profile: Profile, found: Mapping[str, str]
) -> tuple[tuple[Position, ...], tuple[Reason, ...]]:
    keys = profile.scattering
    calibration = _calibration_stream(run, profile) or look_up(run.start, keys.calibration)
    poni, mask = look_up(run.start, keys.poni), look_up(run.start, keys.mask)
    shared = _mask_stream(run, profile)
    positions = [
        Position(
            name=name,
            key=key,
            image=run.streams[name].images[key],
            calibration=_mapping_of(_entry_of(calibration, name, found)),
            poni=_text_of(_entry_of(poni, name, found), run.access),
            mask=shared
            if shared is not None
            else _mask_of(_entry_of(mask, name, found), keys.mask_good, run.access),
        )
        for name, key in found.items()
    ]
    calibrated = [each for each in positions if each.calibration is not None or each.poni is not None]
    if calibrated and len(calibrated) < len(positions):
        names = ", ".join(each.name for each in positions)
        left_out = ", ".join(each.name for each in positions if each not in calibrated)
        remark = (
            f"{left_out} left out: one calibration is not that of {len(positions)} positions ({names}); "
            "give calibration_md or poni_file as a mapping from stream to calibration"
        )
        return tuple(calibrated), (Reason(remark, ReasonCode.CALIBRATION_MISSING),)
    return tuple(positions), ()


def _entry_of(entry: Any, name: str, positions: Mapping[str, str]) -> Any:
    """Return the entry of one position by its name; a single entry is that of the first."""
    if isinstance(entry, Mapping) and any(other in entry for other in positions):
        return entry.get(name)
    return entry if name == next(iter(positions)) else None


def _mapping_of(value: Any) -> Mapping[str, Any] | None:
    if value is None or isinstance(value, Mapping):
        return value
    raise DocumentError(
        f"expected the calibration as a mapping such as {{dist, poni1, ...}}, found {value!r:.60}"
    )


def _text_of(path: Any, access: FileAccess) -> str | None:
    if not isinstance(path, str) or not path.strip():
        return None
    # Some runs hold the file's text instead of its name.
    return path if "\n" in path else _text_in(path.strip(), access)


def _mask_of(path: Any, good: int, access: FileAccess) -> NDArray[np.bool_] | None:
    if not isinstance(path, str) or not path.strip():
        return None
    return _bad(_mask_in(path.strip(), access), None, good)


def _bad(mask: NDArray[Any], odd: NDArray[np.bool_] | None, good: int) -> NDArray[np.bool_]:
    """Return a mask in the one sense of this package: True is bad."""
    if mask.ndim > 2:
        mask = mask.reshape(-1, *mask.shape[-2:])[0]
    bad = np.asarray(mask != 0) if good == 0 else np.asarray(mask == 0)
    return bad if odd is None or good != 0 else bad | odd


def _mask_stream(run: CollectedRun, profile: Profile) -> NDArray[np.bool_] | None:
    keys = profile.scattering
    image = _stream_image(run, keys.mask_stream, (keys.mask_key, *keys.image))
    # The largest number in a mask is not a saturated pixel.
    return None if image is None else _bad(image.mean, image.bad, keys.mask_good)


def _stream_image(run: CollectedRun, stream: str, keys: tuple[str, ...]) -> ImageMean | None:
    """Return the first image under one of the keys in the streams that match a pattern."""
    for name in sorted(run.streams):
        if re.fullmatch(stream, name, re.IGNORECASE):
            for key in matching(keys, list(run.streams[name].images)):
                return run.streams[name].images[key]
    return None


def _calibration_stream(run: CollectedRun, profile: Profile) -> dict[str, Any] | None:
    """Return the numbers of the calibration stream, without the name of the detector in their keys."""
    for name in sorted(run.streams):
        if re.fullmatch(profile.scattering.calibration_stream, name, re.IGNORECASE):
            columns = run.streams[name].columns
            return {_bare(key): values[-1] for key, values in columns.items() if values} or None
    return None


def _bare(key: str) -> str:
    return re.sub(r"^[a-z]+[0-9]*[a-z]?_(?=[a-z])", "", key, flags=re.IGNORECASE)


def _composition(start: Mapping[str, object], profile: Profile) -> Composition:
    for path in profile.scattering.composition:
        value = look_up(start, (path,))
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, Mapping) and value and all(map(_is_amount, value.values())):
            return {str(symbol): float(amount) for symbol, amount in value.items()}
    return ""


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _wavelength(run: CollectedRun, profile: Profile) -> float | None:
    for path in profile.scattering.wavelength:
        value = real_number(look_up(run.start, (path,)))
        if value is not None and value > 0.0:
            return value
    return None


def _completeness(run: CollectedRun, profile: Profile, found: Mapping[str, str]) -> tuple[float, Quality]:
    """Return the measured fraction of the plan, for the position that has the fewest points."""
    have = min(run.streams[name].images[key].n_points for name, key in found.items())
    events = max(run.streams[name].n_events for name in found)
    planned = planned_points(run, profile)
    if events > have:
        text = f"the images of {events - have} of {events} events could not be read"
        return have / max(events, planned or 0), Quality().suspect(incomplete(text))
    if planned is None:
        return 1.0, Quality().note(plan_unknown())
    if have < planned:
        return have / planned, Quality().suspect(
            incomplete(f"{have} of {planned} planned points were measured")
        )
    return 1.0, Quality()


def _no_image(run: CollectedRun) -> MissingDataError:
    reasons = "; ".join(run.remarks())
    held = ", ".join(f"{name} ({stream.n_events} events)" for name, stream in run.streams.items())
    return MissingDataError(
        f"expected an image, found none that could be read in {held or 'a run without streams'}"
        + (f": {reasons}" if reasons else "")
    )


LARGEST_TEXT = 1_000_000
"""No calibration is longer [bytes]."""
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04", b"\x89HDF")
"""How files begin whose images can be of any size, or in other files."""


def _text_in(path: str, access: FileAccess) -> str:
    """Return the text of a calibration file that a run names."""
    try:
        with access.opened(access.local(path)) as file:
            require_size(file, LARGEST_TEXT, path)
            return file.read(LARGEST_TEXT).decode("utf-8")
    except (OSError, ValueError) as error:
        raise _file_error(path, error) from None


def _mask_in(path: str, access: FileAccess) -> NDArray[Any]:
    """Return the numbers of a mask in a file: `.npy`, `.tif`, `.txt`, or a format of fabio."""
    try:
        local = access.local(path)
        with access.opened(local) as file:
            mask = _read(file, local, shown(path))
    except UNREADABLE as error:
        raise _file_error(path, error) from None
    if mask.ndim < 2 or mask.dtype.kind not in "biuf":
        raise FileFormatError(
            f"expected a mask of rows and columns in {shown(path)}, found the shape {mask.shape}"
        )
    return mask


def _read(file: BinaryIO, path: Path, name: str) -> NDArray[Any]:
    if path.suffix.lower() in {".txt", ".dat"}:
        require_size(file, LARGEST_TEXT_TABLE, name)
        return np.loadtxt(file, ndmin=2)
    image = read_plain_image(file, path, name)
    if image is not None:
        return image
    require_size(file, LARGEST_DECODED, name)
    if file.read(8).startswith(_PACKED):
        raise refused(f"expected a mask in a file that is not packed, found {name}: unpack it")
    with needs_extra("scattering"):
        import fabio

    with fabio.open(str(path)) as image:
        require_decoded(image.shape, 8, name)
        return np.asarray(image.data)


def _file_error(path: str, error: Exception) -> DocumentError:
    if isinstance(error, DocumentError):
        return error
    if isinstance(error, FileNotFoundError):
        return MissingDataError(
            f"expected the file {shown(path)}, which the run names, found none: mount its folder here"
        )
    return FileFormatError(
        f"expected {shown(path)}, which the run names, to be readable, found what is not "
        f"({type(error).__name__})"
    )
