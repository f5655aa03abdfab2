"""Bluesky plans of the simulated total-scattering beamline.

Start documents contain what those of real beamlines contain; the structure of the sample is not in them.
"""

from collections.abc import Generator, Mapping
from enum import StrEnum
from typing import Any

from bluesky import plan_stubs, preprocessors

from bluesky_xpdml.demo.beamline.scattering import EMPTY, ScatteringBeamline
from bluesky_xpdml.errors import BeamlineError

DARK_FRAMES = 8
"""Dark frames of a run: enough to estimate the variance of a pixel."""

CALIBRATION = ("poni1", "poni2", "rot1", "rot2", "rot3", "wavelength", "pixel1", "pixel2")
"""Fields of the calibration that start documents hold under the same name."""
Plan = Generator[Any, Any, Any]


class Dark(StrEnum):
    """Where the dark frames of a run are."""

    STREAM = "stream"
    """In a stream `dark` of the same run."""
    RUN = "run"
    """In a run of their own, measured before and named by `sc_dk_field_uid`."""
    NONE = "none"
    """Not measured."""


def scattering_scan(
    beamline: ScatteringBeamline,
    name: str,
    *,
    frames: int = 1,
    exposure: float = 1.0,
    dark: Dark = Dark.STREAM,
    mask: bool = True,
    background: str = "",
    md: Mapping[str, object] | None = None,
) -> Plan:
    """Move a sample into the beam and take frames of what it scatters; the plan returns the uid of the run.

    Parameters
    ----------
    beamline
        The beamline.
    name
        Of a sample in the changer, or `EMPTY` for container and air alone.
    frames
        Number of light frames, one event each.
    exposure
        Of a frame [s], in the simulation's time.
    dark
        Where the dark frames are.
    mask
        Whether the detector's own mask is a stream of the run.
    background
        Name of the sample whose run is the background; empty for none.
    md
        More for the start document.

    Raises
    ------
    BeamlineError
        If no sample has that name, or `frames` is less than one.
    """
    if frames < 1:
        raise BeamlineError(f"expected at least one frame, found {frames}")
    yield from plan_stubs.abs_set(beamline.changer, name, wait=True)
    more: dict[str, object] = {"bkgd_sample_name": background} if background else {}
    if dark is Dark.RUN:
        more["sc_dk_field_uid"] = yield from dark_scan(beamline, exposure=exposure)
    metadata = _metadata(beamline, frames, exposure) | _sample_metadata(beamline) | more | dict(md or {})

    def measure() -> Plan:
        if mask:
            yield from plan_stubs.trigger_and_read([beamline.mask], name="mask")
        if dark is Dark.STREAM:
            yield from _expose(beamline, "closed", DARK_FRAMES, "dark")
        yield from _expose(beamline, "open", frames, "primary")

    return (yield from _run(beamline, measure(), exposure, metadata))


def background_scan(beamline: ScatteringBeamline, *, frames: int = 1, exposure: float = 1.0) -> Plan:
    """Take frames of the empty capillary and the air; the parameters are those of `scattering_scan`."""
    return (yield from scattering_scan(beamline, EMPTY, frames=frames, exposure=exposure))


def dark_scan(beamline: ScatteringBeamline, *, frames: int = DARK_FRAMES, exposure: float = 1.0) -> Plan:
    """Take frames with the shutter closed, as a run of their own, and return its uid."""
    metadata = _metadata(beamline, frames, exposure) | {"plan_name": "dark_scan", "dark_frame": True}
    frames_of_run = _expose(beamline, "closed", frames, "primary")
    return (yield from _run(beamline, frames_of_run, exposure, metadata))


def _run(beamline: ScatteringBeamline, frames: Plan, exposure: float, metadata: dict[str, object]) -> Plan:
    yield from plan_stubs.abs_set(beamline.detector.exposure, exposure, wait=True)
    measured = preprocessors.run_wrapper(frames, md=metadata)
    closed = preprocessors.finalize_wrapper(
        measured, plan_stubs.abs_set(beamline.shutter, "closed", wait=True)
    )
    return (yield from preprocessors.stage_wrapper(closed, [beamline.detector]))


def _expose(beamline: ScatteringBeamline, state: str, frames: int, stream: str) -> Plan:
    yield from plan_stubs.abs_set(beamline.shutter, state, wait=True)
    for _ in range(frames):
        yield from plan_stubs.trigger_and_read([beamline.detector], name=stream)


def _metadata(beamline: ScatteringBeamline, frames: int, exposure: float) -> dict[str, object]:
    detector, place = beamline.detector, beamline.detector.calibration
    return {
        "plan_name": "scattering_scan",
        "technique": "total scattering",
        "detectors": [detector.name],
        "num_points": frames,
        "num_intervals": frames - 1,
        "exposure": exposure,
        "sp_time_per_frame": exposure,
        "sp_num_frames": frames,
        "analysis_stage": "raw",
        "bt_wavelength": place.wavelength * 1e10,
        "calibration_md": {
            "dist": place.distance,
            **{name: getattr(place, name) for name in CALIBRATION},
            "shape": list(detector.bad_pixels.shape),
        },
        "hints": {"dimensions": [(["time"], "primary")]},
    }


def _sample_metadata(beamline: ScatteringBeamline) -> dict[str, object]:
    """Return what is known of the sample before the measurement: its composition, not its structure."""
    sample, name = beamline.changer.sample, beamline.changer.position
    if sample is None:
        return {"sample": {"name": name}, "sample_name": name}
    return {
        "sample": {"name": name, "composition": sample.formula},
        "sample_name": name,
        "sample_composition": sample.composition,
        "composition_string": sample.formula,
    }
