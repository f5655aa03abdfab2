"""Which runs are total scattering, and which of their images are worth the memory."""

import re
from collections.abc import Mapping

from bluesky_xpdml.documents.absorption_start import claims_absorption
from bluesky_xpdml.documents.collector import RunCollector
from bluesky_xpdml.documents.images import ImageCollector
from bluesky_xpdml.documents.profile import Profile, detect_profile, load_profile, look_up, matching
from bluesky_xpdml.documents.run import CollectedRun, Stream


def collector_for(
    start: Mapping[str, object], *, profile: str = "auto", root_map: Mapping[str, str] | None = None
) -> RunCollector:
    """Return a collector that adds up the images of a run where they may be total scattering.

    Images of absorption runs, and images under other names than the profile's, are not even read. Tables of
    continuous scans are kept under the names that the profile gives them.

    Parameters
    ----------
    start
        The start document.
    profile
        Which convention the run follows; `auto` reads it from the start document.
    root_map
        Folder here by folder there, for file systems that are mounted under another name.

    Examples
    --------
    >>> collector_for({"uid": "a", "plan_name": "count"}).uid
    'a'
    """
    known = detect_profile(start) if profile == "auto" else load_profile(profile)
    arrays = array_keys(known)
    if claims_absorption(start, known) and not claims_scattering(start, known):
        return RunCollector(start, array_keys=arrays, root_map=root_map)
    keys = (*known.scattering.image, known.scattering.mask_key)
    images = ImageCollector(root_map, with_variance=is_dark(start, known))
    return RunCollector(start, image_keys=keys, images=images, array_keys=arrays, root_map=root_map)


def array_keys(profile: Profile) -> tuple[str, ...]:
    """Return patterns of the data keys whose arrays a profile asks for.

    Parameters
    ----------
    profile
        Which key means what.

    Examples
    --------
    >>> array_keys(load_profile("generic"))
    ()
    """
    fly = profile.fly
    triggered = (*fly.triggers.values(), *fly.triggers, *fly.elements)
    return (*fly.analog, *fly.encoder, *triggered) if fly.analog else ()


def claims_scattering(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a start document says that the run is a total-scattering measurement.

    It does where its technique or plan name says so, where it holds a calibration, names its dark run or is
    one, or where it bears the marks of a beamline that measures nothing else.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> claims_scattering({"calibration_md": {"dist": 0.2}}, load_profile("generic"))
    True
    >>> claims_scattering({"plan_name": "count"}, load_profile("generic"))
    False
    """
    keys = profile.scattering
    claim = re.compile(keys.claims, re.IGNORECASE)
    texts = (look_up(start, (path,)) for path in profile.start.technique)
    if any(isinstance(text, str) and claim.search(text) for text in texts):
        return True
    said = (*keys.calibration, *keys.poni, *keys.dark_uid)
    named = look_up(start, said) is not None or profile.name in {"xpd", "xpdacq", "pdf"}
    return named or is_dark(start, profile)


def is_dark(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a run is one of dark frames.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> is_dark({"dark_frame": True}, load_profile("xpd"))
    True
    """
    return look_up(start, profile.scattering.is_dark) is True


def is_scattering(run: CollectedRun, profile: Profile) -> bool:
    """Return whether a run is a total-scattering measurement: it says so and describes images, dark or light.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> from bluesky_xpdml.documents.run import Stream
    >>> stream = Stream(name="primary", data_keys={"pe1_image": {}})
    >>> run = CollectedRun(uid="a", start={"sc_dk_field_uid": "d"}, streams={"primary": stream})
    >>> is_scattering(run, load_profile("xpd"))
    True
    """
    return claims_scattering(run.start, profile) and bool(image_keys(run, profile))


def image_keys(run: CollectedRun, profile: Profile) -> dict[str, str]:
    """Return the data key of the images by stream, for the streams that the first fitting pattern fits.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    """
    keys = profile.scattering
    for pattern in keys.streams:
        names = sorted(name for name in run.streams if re.fullmatch(pattern, name, re.IGNORECASE))
        found = {name: key for name in names for key in _images_in(run.streams[name], keys.image)[:1]}
        if found:
            return found
    return {}


def _images_in(stream: Stream, patterns: tuple[str, ...]) -> list[str]:
    """Return the keys that fit, those with images before those that only promise them."""
    keys = matching(patterns, list(stream.data_keys), "")
    return sorted(keys, key=lambda key: (key not in stream.images, key))
