"""What total-scattering runs say is read in each convention, in one sense, and nothing is made up."""

import numpy as np
import pytest

from bluesky_xpdml.documents import (
    RunKind,
    collector_for,
    detect_profile,
    load_profile,
    profile_names,
    read_run,
)


def read(documents):
    collector = collector_for(documents[0][1])
    for name, document in documents[1:]:
        collector.feed(name, document)
    return read_run(collector.finish()).scattering


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ({"sc_dk_field_uid": "d"}, "xpd"),
        ({"sc_dk_field_uid": None}, "xpd"),
        ({"beamline_id": "XPD"}, "xpd"),
        ({"bt_wavelength": 0.18}, "xpd"),
        ({"composition_str": "Ni"}, "xpdacq"),
        ({"pyfai_calib_kwargs": {}}, "xpdacq"),
        ({"sp_plan_name": "pila_3pos"}, "pdf"),
        ({"sp_plan_name": "pila_jog", "bt_uid": "b"}, "pdf"),
        ({"beamline_id": "28-ID-1"}, "pdf"),
        ({"plan_name": "count"}, "generic"),
        ({"beamline_id": 7}, "generic"),
        ({"xpdml": {"profile": "pdf"}}, "pdf"),
    ],
)
def test_scattering_beamlines_are_detected_by_their_start_documents(start, name):
    assert detect_profile(start).name == name


def test_every_profile_has_keys_of_both_techniques():
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.scattering.image
        assert profile.absorption.energy


def test_a_run_without_images_is_no_scattering_whatever_it_states(powder):
    documents = powder.run({"primary": [{"temperature": 300.0}]}, calibration_md=powder.calibration)
    collector = collector_for(documents[0][1])
    for name, document in documents[1:]:
        collector.feed(name, document)
    measurement = read_run(collector.finish(), "generic")
    assert measurement.kind is RunKind.OTHER
    assert measurement.scattering is None


def test_streams_give_dark_calibration_and_mask(powder):
    mask = np.zeros(powder.shape, dtype=np.uint8)
    mask[3, 5] = 1
    run = read(powder.streams(mask=mask))
    (position,) = run.positions
    assert position.calibration["dist"] == 0.2
    assert position.calibration["wavelength"] == powder.calibration["wavelength"]
    assert np.argwhere(position.mask).tolist() == [[3, 5]]
    assert run.dark.mean.max() == powder.dark_level
    assert (position.image.n_frames, run.composition) == (2, "NiO")


def test_a_mask_of_the_largest_number_is_a_mask_too(powder):
    mask = np.zeros(powder.shape, dtype=np.uint8)
    mask[3, 5] = 255
    (position,) = read(powder.streams(mask=mask)).positions
    assert np.argwhere(position.mask).tolist() == [[3, 5]]


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".tif", ".edf"])
def test_masks_in_files_mean_the_same(powder, tmp_path, suffix):
    mask = np.zeros(powder.shape, dtype=np.uint8)
    mask[3, 5] = 1
    path = tmp_path / f"mask{suffix}"
    write_mask(path, mask)
    (position,) = read(powder.older(mask_file=str(path))).positions
    assert np.argwhere(position.mask).tolist() == [[3, 5]]


def write_mask(path, mask):
    if path.suffix == ".npy":
        np.save(path, mask)
    elif path.suffix == ".txt":
        np.savetxt(path, mask)
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, mask)
    else:
        from fabio.edfimage import EdfImage

        EdfImage(data=mask).write(str(path))


def test_positions_have_calibrations_of_their_own(powder):
    run = read(powder.positions())
    assert [each.name for each in run.positions] == ["pilatus1_pos0", "pilatus1_pos1", "pilatus1_pos2"]
    assert [each.calibration["poni1"] for each in run.positions] == [0.0, -0.013, -0.026]
    assert run.counting
    assert run.positions[0].image.bad[60:64].all()


def test_compositions_wavelengths_and_names_in_every_spelling(powder):
    run = read(powder.older(bkgd_sample_name="kapton", composition_string=None))
    assert run.composition == {"Ni": 1.0, "O": 1.0}
    assert run.sample.composition == "Ni O"
    assert (run.wavelength, run.background_name, run.dark_uid) == (0.1836, "kapton", "dark")
    for odd in (True, "soft", -1.0, float("nan"), [0.18], 10**400):
        assert read(powder.older(bt_wavelength=odd)).wavelength is None
    for odd in ({}, {"Ni": "much"}, {"Ni": -1}, 7, [1], " "):
        said = read(powder.older(composition_string=odd, sample_composition=None)).composition
        assert said == ""


def test_frames_repeated_after_a_pause_are_averaged_with_a_remark(powder):
    documents = powder.streams()
    again = documents[-2][1] | {"uid": "again"}
    run = read([*documents[:-1], ("event", again), documents[-1]])
    assert run.positions[0].image.n_frames == 3
    assert "points were measured again" in "; ".join(run.quality.reasons)


def test_events_that_come_twice_count_once(powder):
    documents = powder.streams()
    run = read([*documents[:-1], documents[-2], documents[-1]])
    assert run.positions[0].image.n_frames == 2
