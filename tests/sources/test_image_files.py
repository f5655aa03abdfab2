"""Images and calibrations from files: every format gives the same image, damage gives a reason."""

import numpy as np
import pytest

from bluesky_xpdml.errors import FileFormatError, MissingDataError, ReductionError
from bluesky_xpdml.sources.images import read_calibration, read_frame, read_image, read_mask

IMAGE = np.arange(30, dtype=np.int32).reshape(5, 6)


def save(path, image):
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix in {".tif", ".tiff"}:
        import tifffile

        tifffile.imwrite(path, image, photometric="minisblack")
    else:
        import fabio

        module = {".edf": fabio.edfimage.EdfImage, ".cbf": fabio.cbfimage.CbfImage}[path.suffix]
        module(data=image).write(str(path))
    return path


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".tiff", ".edf", ".cbf"])
def test_every_format_gives_the_image(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", IMAGE))
    assert np.array_equal(image, IMAGE)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_stacks_are_averaged_to_a_frame(tmp_path, suffix):
    stack = np.stack([IMAGE, IMAGE + 2, IMAGE + 4, IMAGE + 6])
    path = save(tmp_path / f"a{suffix}", stack)
    frame = read_frame(path, dark=save(tmp_path / "dark.npy", stack), composition="Ni")
    assert np.array_equal(frame.image, IMAGE + 3.0)
    assert (frame.n_frames, frame.n_dark, frame.source) == (4, 4, path.name)
    assert frame.dark_variance == pytest.approx(np.var([0, 2, 4, 6], ddof=1))
    assert frame.sample.composition == "Ni"


def test_a_single_image_stays_as_it_was_counted(tmp_path):
    frame = read_frame(save(tmp_path / "a.npy", IMAGE.astype(np.uint16)))
    assert (frame.image.dtype, frame.n_frames, frame.dark) == (np.uint16, 1, None)


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".edf", ".cbf", ".what"])
def test_damaged_images_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (b"", b"not an image at all", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="expected an image"):
            read_image(path)


def test_half_an_image_is_refused(tmp_path):
    path = save(tmp_path / "a.npy", np.zeros((100, 100)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match="expected an image"):
        read_image(path)


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((2, 2, 2, 2)), np.array([["a"]]), np.zeros((0, 3))])
def test_arrays_that_are_no_images_are_refused(tmp_path, array):
    with pytest.raises(FileFormatError, match="expected an image of numbers"):
        read_image(save(tmp_path / "a.npy", array))


def test_pickles_are_never_loaded(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FileFormatError, match="expected an image"):
        read_image(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="no such file"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(MissingDataError, match="cannot be opened"):
        read_calibration(tmp_path / "none.poni")


def test_masks_are_read_in_either_sense(tmp_path):
    path = save(tmp_path / "mask.npy", np.eye(3, dtype=np.uint8))
    assert read_mask(path, (3, 3)).sum() == 3
    assert read_mask(path, (3, 3), bad=False).sum() == 6
    with pytest.raises(ReductionError, match="the mask has the shape"):
        read_mask(path, (4, 4))


def test_a_poni_file_is_read_and_named_where_it_is_wrong(tmp_path, shared_data):
    good = read_calibration(shared_data / "experiment/total_scattering/calibration/Ni_poni_file.poni")
    assert good.distance == pytest.approx(0.24877604)
    path = tmp_path / "torn.poni"
    path.write_text("Distance: 0.2\nPoni1: 0.1\n")
    with pytest.raises(ReductionError, match=r"torn\.poni: the calibration lacks poni2"):
        read_calibration(path)
