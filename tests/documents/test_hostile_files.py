"""Documents that name files they should not, and files that claim or refer to more than they hold."""

import os
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluesky_xpdml.documents import collector_for, read_run
from bluesky_xpdml.documents import images as images_module
from bluesky_xpdml.documents.arrays import read_table
from bluesky_xpdml.documents.assets import Asset
from bluesky_xpdml.errors import DocumentError

CONTENT = "daemon:x:1:1"
"""What stands in the file that nobody may read."""
FRAMES = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
HDF5, TIFF = "application/x-hdf5", "multipart/related;type=image/tiff"
START = {"uid": "raw", "time": 0.0, "calibration_md": {"dist": 0.2}}
DESCRIPTOR = {
    "uid": "d",
    "run_start": "raw",
    "name": "primary",
    "time": 0.0,
    "data_keys": {"pe1_image": {"source": "", "dtype": "array", "shape": [1, 6, 8], "external": "STREAM:"}},
}


def run_of(*documents, start=START, **options):
    collector = collector_for(start, **options)
    collector.feed("descriptor", DESCRIPTOR)
    for name, document in documents:
        collector.feed(name, document)
    return collector.finish(given_up="test")


def streamed(uri, mimetype=HDF5, parameters=None, indices=(0, 4)):
    resource = {"uid": "s", "data_key": "pe1_image", "mimetype": mimetype, "uri": uri}
    datum = {"uid": "s/0", "stream_resource": "s", "descriptor": "d"}
    first, last = indices
    return (
        ("stream_resource", resource | {"parameters": parameters or {}}),
        ("stream_datum", datum | {"indices": {"start": first, "stop": last}}),
    )


def filed(spec, path, kwargs=None, point=0):
    resource = {"uid": "r", "spec": spec, "root": "", "resource_path": str(path)}
    event = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 0.0, "timestamps": {}, "filled": {}}
    return (
        ("resource", resource | {"resource_kwargs": kwargs or {}}),
        ("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"point_number": point}}),
        ("event", event | {"data": {"pe1_image": "r/0"}}),
    )


def refused(run):
    """Return why no image was read."""
    assert run.streams["primary"].images == {}
    said = "; ".join(run.anomalies)
    assert said
    assert CONTENT not in said
    return said


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "passwords").write_text(f"{CONTENT}\n" * 20)
    return folder


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def address(path):
    return f"file://localhost{path}"


@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR", "AD_TIFF", "NPY_SEQ"])
def test_a_network_without_roots_has_no_file_opened(root, spec):
    hdf5(root / "a.h5", entry__data__data=FRAMES)
    for documents in (filed(spec, root / "a.h5"), streamed(address(root / "a.h5"))):
        said = refused(run_of(*documents, anywhere=False))
        assert "--root" in said
    run = run_of(*streamed(address(root / "a.h5")), anywhere=False, root_map={str(root): str(root)})
    assert run.streams["primary"].images["pe1_image"].n_frames == 4


def test_files_outside_of_the_roots_are_refused_by_every_way(root):
    hdf5(root.parent / "a.h5", entry__data__data=FRAMES)
    tifffile.imwrite(root.parent / "a_000000.tif", FRAMES[0])
    np.save(root.parent / "a_0.npy", FRAMES[0])
    (root / "link.h5").symlink_to(root.parent / "a.h5")
    ways = (
        streamed(address(root.parent / "a.h5")),
        streamed(address(root / ".." / "a.h5")),
        streamed(address(root / "%2e%2e" / "a.h5")),
        streamed(address(root / "link.h5")),
        streamed(f"file://otherhost{root}/a.h5"),
        filed("AD_HDF5", root / ".." / "a.h5"),
        filed("NPY_SEQ", root.parent / "a"),
        filed("AD_TIFF", root, {"template": "%s%s_%6.6d.tif", "filename": "../a"}),
        filed("AD_TIFF", root, {"template": "%s../%s_%6.6d.tif", "filename": "a"}),
        filed("AD_TIFF", root.parent, {"template": "%s%s_%6.6d.tif", "filename": "a"}),
        streamed(address(f"{root}/"), TIFF, {"template": "../a_{:06d}.tif"}),
        streamed(address(f"{root}/"), TIFF, {"template": "%s%s_%6.6d.tif", "filename": "../a"}),
    )
    for documents in ways:
        run = run_of(*documents, root_map={str(root): str(root)})
        refused(run)
        assert {reason.code.value for reason in run.anomalies} == {"file-refused"}, run.anomalies


@pytest.mark.parametrize(
    "template",
    [
        "%s%s_%999999999d.tif",
        "%s%s_%.999999999d.tif",
        "%s%s_%*d.tif",
        "%s%s_%c.tif",
        "%(a)s",
        "{:0999999999d}.tif",
        "{0.__class__}",
        "{0!r:>999999999}",
        "{1}",
        "{",
        "x" * 5_000,
    ],
)
def test_templates_of_other_names_than_numbered_ones_are_refused(root, template):
    tracemalloc.start()
    for documents in (
        filed("AD_TIFF", root, {"template": template, "filename": "a"}),
        streamed(address(f"{root}/"), TIFF, {"template": template, "filename": "a"}),
    ):
        said = refused(run_of(*documents))
        # Braces mean nothing where a template has percent signs.
        assert "expected a template" in said or ("{" in template and "TypeError" in said)
        assert len(said) < 2_000
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("indices", [(0, 10**12), (10**12, 10**12 + 1), (-1, 2), (3, 1), (0, 1.5), (0, True)])
def test_ranges_that_no_run_has_are_refused(root, indices):
    path = hdf5(root / "a.h5", entry__data__data=FRAMES)
    assert "expected indices from start to stop" in refused(run_of(*streamed(address(path), indices=indices)))


def test_a_long_range_of_files_that_are_not_there_is_given_up(root):
    run = run_of(*streamed(address(f"{root}/"), TIFF, {"template": "a_{:06d}.tif"}, indices=(0, 2**30)))
    said = refused(run)
    assert f"more than {images_module.MAXIMUM_POINTS} points were cut" in said
    assert f"points beyond {images_module.MAXIMUM_UNREADABLE} that could not be read" in said
    assert len(run.remarks()) < 200


def test_a_point_of_more_frames_than_any_detector_gives_is_refused(root):
    """A template without a number is the same file for every frame."""
    tifffile.imwrite(root / "a.tif", FRAMES[0])
    keys = {"pe1_image": {"source": "", "dtype": "array", "shape": [2**31, 6, 8], "external": "STREAM:"}}
    collector = collector_for(START)
    collector.feed("descriptor", DESCRIPTOR | {"data_keys": keys})
    for name, document in streamed(address(f"{root}/"), TIFF, {"template": "a.tif"}, (0, 1)):
        collector.feed(name, document)
    assert "at most 10000 frames per point, found 2147483648" in refused(collector.finish(given_up="test"))
    by_datum = filed("AD_TIFF", root, {"template": "%s%s_%d.tif", "filename": "a", "frame_per_point": 10**9})
    assert "at most 10000 frames per point" in refused(run_of(*by_datum))


def test_42_kilobytes_that_claim_7_gigabytes_are_not_read(root):
    path = root / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("flat", (60_000, 60_000), "u2", chunks=(600, 600), compression="gzip")
        file.create_dataset("deep", (1, 60_000, 60_000), "u2", chunks=(1, 600, 600), compression="gzip")
        file.create_dataset("chunk", (4, 6, 8), "u2", chunks=(4, 6, 8), maxshape=(None, None, None))
        file.create_dataset(
            "wide", (1, 40_000, 40_000), "f8", chunks=(1, 20_000, 20_000), compression="gzip", fillvalue=0
        )
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    for name in ("flat", "deep", "wide"):
        run = run_of(*streamed(address(path), parameters={"dataset": name}, indices=(0, 1)))
        assert "expected at most 1073741824 bytes of numbers at a time" in refused(run)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert "chunk" in h5py.File(path)


def test_tables_that_claim_more_than_fits_are_not_read(root, conventions):
    path = root / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("apb_stream", (10**6, 10**6), "u1", chunks=(1000, 1000), compression="gzip")
        file["texts"] = np.array([CONTENT.encode()] * 3, dtype=object)
    for name in ("apb_stream", "texts"):
        documents = conventions.iss_documents(conventions.Known(), n_samples=100)
        moved = []
        for kind, document in documents:
            if kind == "event_page" and "apb_stream" in document["data"]:
                resource = {"uid": "s", "mimetype": HDF5, "data_key": "apb_stream", "uri": address(path)}
                moved.append(("stream_resource", resource | {"parameters": {"dataset": name}}))
                datum = {"uid": "s/0", "stream_resource": "s", "indices": {"start": 0, "stop": 10**6}}
                moved.append(("stream_datum", datum | {"descriptor": document["descriptor"]}))
            else:
                moved.append((kind, document))
        collector = collector_for(moved[0][1])
        for kind, document in moved[1:]:
            collector.feed(kind, document)
        said = "; ".join(collector.finish().remarks())
        assert str(path) in said
        assert CONTENT not in said


def test_datasets_in_other_files_are_opened_under_the_roots_only(root):
    """A file under a root can refer to others: by links, virtual datasets, and raw storage in any file."""
    inside, outside = (
        hdf5(folder / "frames.h5", frames=FRAMES, entry__data__data=FRAMES) for folder in (root, root.parent)
    )
    with h5py.File(root / "master.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/near")
        file["near"] = h5py.ExternalLink("frames.h5", "frames")
        file["far"] = h5py.ExternalLink("../frames.h5", "frames")
        file["round"] = h5py.SoftLink("/round")
        for name, source in (("virtual", "frames.h5"), ("virtual_far", str(outside))):
            layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
            layout[:] = h5py.VirtualSource(source, "frames", FRAMES.shape)
            file.create_virtual_dataset(name, layout)
        file.create_dataset(
            "raw", (1, 6, 8), "u1", external=[(str(root.parent / "passwords"), 0, h5py.h5f.UNLIMITED)]
        )

    def read(name, **options):
        parameters = {"dataset": name}
        return run_of(
            *streamed(address(root / "master.h5"), parameters=parameters, indices=(0, 1)),
            root_map={str(root): str(root)},
            **options,
        )

    for name in ("soft", "near", "virtual"):
        mean = read(name).streams["primary"].images["pe1_image"].mean
        np.testing.assert_array_equal(mean, FRAMES[0])
    for name in ("far", "virtual_far"):
        said = refused(read(name))
        assert "refers to a file that was not opened: it is outside of the folders under [roots]" in said
        assert "frames.h5" not in said, "what a file refers to is its content"
    assert "stored in other files" in refused(read("raw"))
    assert "found more" in refused(read("round"))
    assert inside.exists()
    unlimited = run_of(*streamed(address(root / "master.h5"), parameters={"dataset": "raw"}, indices=(0, 1)))
    assert "stored in other files" in refused(unlimited)


def test_pages_of_an_image_file_that_claim_too_much_are_not_decoded(root):
    big = np.zeros((200, 300), dtype=np.uint16)
    tifffile.imwrite(root / "a_000000.tif", big, compression="zlib")
    path = root / "a_000000.tif"
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        offsets = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for offset in offsets:
        raw[offset : offset + 4] = (60_000).to_bytes(4, "little")
    path.write_bytes(raw)
    tracemalloc.start()
    said = refused(run_of(*streamed(address(f"{root}/"), TIFF, {"template": "a_{:06d}.tif"}, (0, 1))))
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    assert "7200000000" in said or "cannot be read" in said


def test_pipes_do_not_block_a_run(root):
    for name in ("a.h5", "a_0.npy", "a_000000.tif"):
        os.mkfifo(root / name)
    for documents in (
        streamed(address(root / "a.h5")),
        streamed("file:///dev/zero"),
        streamed("file:///proc/self/environ"),
        filed("NPY_SEQ", root / "a"),
        streamed(address(f"{root}/"), TIFF, {"template": "a_{:06d}.tif"}),
    ):
        run = run_of(*documents)
        refused(run)
        assert "file-refused" in {reason.code.value for reason in run.anomalies}


def reading_error(**start):
    frame = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 0.0, "data": {"pe1_image": FRAMES[0]}}
    measurement = read_run(run_of(("event", frame), start=START | start), "xpdacq")
    assert measurement.error is not None
    return measurement.error


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".txt", ".dat", ".edf", ".what", ""])
def test_a_mask_that_is_another_file_is_refused_without_a_word_of_it(root, suffix):
    path = root / f"mask{suffix}"
    path.write_text(f"{CONTENT}\n" * 20)
    error = reading_error(mask_file=str(path), mask=str(path), user_mask=str(path))
    assert CONTENT not in str(error)
    assert "daemon" not in str(error)
    assert str(path) in str(error)


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"]
)
def test_packed_masks_are_refused(root, content):
    path = root / "mask.edf"
    path.write_bytes(content + zlib.compress(b"0" * 1000))
    error = reading_error(mask=str(path), mask_file=str(path))
    assert "not packed" in str(error)


KINDS = ("AD_TIFF", "AD_HDF5", "AD_HDF5_SWMR", "NPY_SEQ", "APB", HDF5, TIFF, "", None, 3)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**12, 2**31 - 1, -1, "", "%s%s_%6.6d.tif", "{:06d}.tif", "%", "{", [], {}, b"x", "\ud800"]
    ),
    st.text(max_size=6),
    st.lists(st.integers(), max_size=2),
)
PATHS = st.sampled_from(
    [
        "a.h5",
        "broken.h5",
        "a",
        "pipe",
        "",
        "..",
        "../passwords",
        "link",
        "/dev/zero",
        "\0",
        "a" * 300,
        "~",
        "%s",
    ]
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["dataset", "path", "template", "filename", "chunk_shape", "join_method", "frame_per_point", "swmr"]
    ),
    st.one_of(JUNK, st.sampled_from(["/entry/data/data", "stack", "../", "loop"])),
    max_size=4,
)


class Folder(str):
    """A path that no report of a failure repeats."""

    __slots__ = ()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "data"
    folder.mkdir()
    (folder.parent / "passwords").write_text(f"{CONTENT}\n" * 20)
    hdf5(folder / "a.h5", entry__data__data=FRAMES)
    with h5py.File(folder / "a.h5", "a") as file:
        file["loop"] = h5py.SoftLink("/loop")
    (folder / "broken.h5").write_bytes((folder / "a.h5").read_bytes()[:1500])
    (folder / "link").symlink_to(folder.parent / "passwords")
    np.save(folder / "a_0.npy", FRAMES[0])
    os.mkfifo(folder / "pipe")
    return Folder(folder)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    path=PATHS,
    kind=st.sampled_from(KINDS),
    parameters=st.one_of(PARAMETERS, JUNK),
    indices=st.one_of(st.tuples(st.just(0), st.integers(0, 6)), st.tuples(JUNK, JUNK)),
    how=st.tuples(st.booleans(), st.booleans()),
)
def test_any_reference_ends_in_images_or_reasons(hostile, path, kind, *, parameters, indices, how):
    is_stream, is_confined = how
    place = path if path.startswith("/") else f"{hostile}/{path}"
    if is_stream:
        documents = streamed(f"file://localhost{place}", kind, parameters, indices)
    else:
        documents = filed(kind, place, parameters, indices[0])
    run = run_of(*documents, root_map={hostile: hostile} if is_confined else None)
    said = "; ".join(run.anomalies)
    assert CONTENT not in said
    assert run.streams["primary"].images or said or indices[0] == indices[1]
    assert len(said) < 100_000


@pytest.mark.parametrize("kind", ["APB", "APB_TRIGGER", "PIZZABOX_ENC_FILE_TXT", "AD_HDF5"])
def test_a_table_that_is_another_file_says_nothing_of_it(root, kind):
    asset = Asset(kind=kind, path=root.parent / "passwords")
    said = str(read_table(asset)) if kind.startswith("APB") else ""
    if not said:
        with pytest.raises(DocumentError, match="found what cannot be read") as caught:
            read_table(asset)
        said = str(caught.value)
    assert "daemon" not in said
