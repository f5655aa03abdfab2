from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_xpdml.demo.beamline import (
    EMPTY,
    Dark,
    ImageFormat,
    ScatteringBeamline,
    background_scan,
    dark_scan,
    scattering_scan,
)
from bluesky_xpdml.documents import CollectedRun, detect_profile, read_run
from bluesky_xpdml.documents.start import claims_scattering, is_dark
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.reduction.calibration import calibration_from

Documents = list[tuple[str, dict[str, Any]]]
Measure = Callable[[Any], Documents]
Collect = Callable[[Iterable[tuple[str, dict[str, Any]]]], list[CollectedRun]]


def starts(documents: Documents) -> list[dict[str, Any]]:
    return [document for name, document in documents if name == "start"]


def test_start_document_says_how_and_what_was_measured_but_not_the_answer(documents_of: Measure) -> None:
    beamline = ScatteringBeamline(pixels=64)
    plan = scattering_scan(beamline, "LaFeO3", frames=3, background=EMPTY, md={"proposal": 7})
    (start,) = starts(documents_of(plan))
    assert start["sample"] == {"name": "LaFeO3", "composition": "LaFeO3"}
    assert start["sample_composition"] == {"Fe": 1.0, "La": 1.0, "O": 3.0}
    assert start["num_points"] == 3
    assert start["bkgd_sample_name"] == EMPTY
    assert start["proposal"] == 7
    assert calibration_from(start["calibration_md"]) == beamline.detector.calibration
    assert not {"structure", "truth", "oxidation_state"} & set(start)
    assert claims_scattering(start, detect_profile(start))


def test_run_holds_mask_dark_and_frames_in_streams(documents_of: Measure, collected: Collect) -> None:
    beamline = ScatteringBeamline(pixels=64, seed=3)
    (run,) = collected(documents_of(scattering_scan(beamline, "MnCO3", frames=3)))
    held = read_run(run).scattering
    (position,) = held.positions
    assert position.image.n_frames == 3
    assert held.dark is not None
    assert held.dark.n_frames == 8
    assert position.mask is not None
    assert np.array_equal(position.mask, beamline.detector.bad_pixels)
    lit = position.image.mean - held.dark.mean
    assert np.allclose(lit, beamline.detector.rate(), rtol=0.4, atol=60.0)
    assert held.completeness == 1.0
    assert held.composition == "MnCO3"


def test_dark_run_comes_first_and_is_named(documents_of: Measure) -> None:
    documents = documents_of(scattering_scan(ScatteringBeamline(pixels=64), "MnCO3", dark=Dark.RUN))
    dark, light = starts(documents)
    assert light["sc_dk_field_uid"] == dark["uid"]
    assert is_dark(dark, detect_profile(dark))
    assert not is_dark(light, detect_profile(light))
    descriptors = [document for name, document in documents if name == "descriptor"]
    streams = {each["name"] for each in descriptors if each["run_start"] == light["uid"]}
    assert streams == {"primary", "mask"}


def test_bare_run_has_frames_alone(documents_of: Measure) -> None:
    documents = documents_of(
        scattering_scan(ScatteringBeamline(pixels=64), "MnCO3", frames=2, dark=Dark.NONE, mask=False)
    )
    assert [name for name, _ in documents] == ["start", "descriptor", "event", "event", "stop"]


def test_background_is_of_no_sample(documents_of: Measure) -> None:
    (start,) = starts(documents_of(background_scan(ScatteringBeamline(pixels=64))))
    assert start["sample_name"] == EMPTY
    assert not {"composition_string", "sample_composition", "bkgd_sample_name"} & set(start)


def test_dark_scan_takes_what_it_is_told(documents_of: Measure, collected: Collect) -> None:
    (run,) = collected(documents_of(dark_scan(ScatteringBeamline(pixels=64), frames=5, exposure=2.0)))
    image = run.streams["primary"].images["pe1_image"]
    assert image.n_frames == 5
    assert np.median(image.mean) == pytest.approx(130.0, abs=3.0)


@pytest.mark.parametrize("image_format", ImageFormat)
def test_frames_are_the_same_whichever_way_they_go(
    documents_of: Measure, collected: Collect, tmp_path: Path, image_format: ImageFormat
) -> None:
    beamline = ScatteringBeamline(pixels=64, seed=4, image_format=image_format, folder=tmp_path)
    documents = documents_of(scattering_scan(beamline, "LaMnO3", frames=3))
    (run,) = collected(documents)
    assert run.remarks() == ()
    reference = ScatteringBeamline(pixels=64, seed=4)
    (expected,) = collected(documents_of(scattering_scan(reference, "LaMnO3", frames=3)))
    for stream, frames in (("dark", 8), ("primary", 3)):
        image, same = (each.streams[stream].images["pe1_image"] for each in (run, expected))
        assert image.n_frames == same.n_frames == frames
        assert np.array_equal(image.mean, same.mean)
    kinds = {name for name, _ in documents} - {"start", "descriptor", "event", "stop"}
    wanted = {
        ImageFormat.EVENT: set(),
        ImageFormat.STREAM: {"stream_resource", "stream_datum"},
    }
    assert kinds == wanted.get(image_format, {"resource", "datum"})


def test_two_runs_never_share_a_file(documents_of: Measure, tmp_path: Path) -> None:
    beamline = ScatteringBeamline(pixels=64, image_format=ImageFormat.HDF5, folder=tmp_path)
    for _ in range(2):
        documents_of(scattering_scan(beamline, "LaMnO3", dark=Dark.NONE, mask=False))
    assert len(list(tmp_path.glob("*.h5"))) == 2


@pytest.mark.parametrize("image_format", ImageFormat)
def test_tiled_serves_the_frames(
    documents_of: Measure, tiled_server: Any, served_folder: Path, image_format: ImageFormat
) -> None:
    """Frames that stay in files are registered; frames in events are stored."""
    from bluesky_tiled_plugins import TiledWriter
    from tiled.client import from_context, from_uri

    uri, folder = tiled_server.uri, served_folder
    beamline = ScatteringBeamline(pixels=64, seed=4, image_format=image_format, folder=folder)
    documents = documents_of(scattering_scan(beamline, "LaMnO3", frames=2, dark=Dark.NONE, mask=False))
    (start,) = starts(documents)
    with closing(from_uri(uri).context) as context:
        client = from_context(context)
        writer = TiledWriter(client.create_container(f"frames-{image_format}"), max_array_size=0)
        for name, document in documents:
            writer(name, document)
        frames = client[f"frames-{image_format}", start["uid"], "primary", "pe1_image"].read()
    reference = documents_of(
        scattering_scan(ScatteringBeamline(pixels=64, seed=4), "LaMnO3", frames=2, dark=Dark.NONE, mask=False)
    )
    sent = [document["data"]["pe1_image"] for name, document in reference if name == "event"]
    assert np.array_equal(np.reshape(frames, (2, 64, 64)), sent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"name": "gold"}, "no capillary 'gold'"), ({"name": "MnCO3", "frames": 0}, "at least one frame")],
)
def test_bad_requests_stop_the_plan_before_a_run_is_opened(arguments: dict[str, Any], message: str) -> None:
    documents: list[Any] = []
    engine = RunEngine({})
    engine.subscribe(lambda *pair: documents.append(pair))
    with pytest.raises(BeamlineError, match=message):
        engine(scattering_scan(ScatteringBeamline(pixels=64), **arguments))
    assert documents == []


def test_files_need_a_folder() -> None:
    beamline = ScatteringBeamline(pixels=64, image_format=ImageFormat.TIFF)
    engine = RunEngine({})
    with pytest.raises(BeamlineError, match="need a folder that exists"):
        engine(scattering_scan(beamline, "MnCO3"))
    assert not beamline.shutter.is_open


def test_time_is_simulated_and_the_shutter_is_closed_in_the_end(documents_of: Measure) -> None:
    beamline = ScatteringBeamline(pixels=64)
    documents = documents_of(
        scattering_scan(beamline, "MnCO3", frames=2, exposure=600.0, dark=Dark.NONE, mask=False)
    )
    times = [document["time"] for name, document in documents if name in {"start", "stop"}]
    assert beamline.clock.now > 1200.0
    assert times[1] - times[0] < 600.0
    assert not beamline.shutter.is_open
