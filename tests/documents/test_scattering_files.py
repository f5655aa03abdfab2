"""Images in files: every kind that beamlines write is read, live or late; what cannot be read is named."""

import h5py
import numpy as np
import pytest
import tifffile

from bluesky_xpdml.documents import collector_for

FRAMES = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
START = {"uid": "raw", "time": 0.0, "calibration_md": {"dist": 0.2}}


def descriptor(shape):
    keys = {"pe1_image": {"source": "", "dtype": "array", "shape": shape, "external": "FILESTORE:"}}
    return "descriptor", {"uid": "d", "run_start": "raw", "name": "primary", "time": 0.0, "data_keys": keys}


def event(number, value):
    document = {"uid": f"e{number}", "descriptor": "d", "seq_num": number, "time": 0.0}
    return "event", document | {
        "data": {"pe1_image": value},
        "timestamps": {},
        "filled": {"pe1_image": False},
    }


def collected(*documents, root_map=None):
    collector = collector_for(START, root_map=root_map)
    for name, document in documents:
        collector.feed(name, document)
    return collector.finish(given_up="test")


def mean_of(run):
    return run.streams["primary"].images["pe1_image"]


def with_resource(spec, folder, path, kwargs, points=4):
    resource = {
        "uid": "r",
        "run_start": "raw",
        "spec": spec,
        "root": str(folder),
        "resource_path": path,
        "resource_kwargs": kwargs,
        "path_semantics": "posix",
    }
    key = "index" if spec == "NPY_SEQ" else "point_number"
    documents = [("resource", resource), descriptor([1, 6, 8])]
    for point in range(points):
        datum = {"datum_id": f"r/{point}", "resource": "r", "datum_kwargs": {key: point}}
        documents += [("datum", datum), event(point + 1, f"r/{point}")]
    return documents


def with_stream(mimetype, uri, parameters, indices=((0, 1), (1, 4)), shape=(1, 6, 8)):
    resource = {
        "uid": "s",
        "run_start": "raw",
        "data_key": "pe1_image",
        "mimetype": mimetype,
        "uri": uri,
        "parameters": parameters,
    }
    data = [
        {
            "uid": f"s/{number}",
            "stream_resource": "s",
            "descriptor": "d",
            "indices": {"start": first, "stop": last},
            "seq_nums": {"start": first + 1, "stop": last + 1},
        }
        for number, (first, last) in enumerate(indices)
    ]
    return [
        descriptor(list(shape)),
        ("stream_resource", resource),
        *(("stream_datum", each) for each in data),
    ]


def write_hdf5(path, frames=FRAMES):
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = frames
    return path


def ad_tiff(folder):
    for number, frame in enumerate(FRAMES):
        tifffile.imwrite(folder / f"nio_{number:06d}.tiff", frame)
    kwargs = {"template": "%s%s_%6.6d.tiff", "filename": "nio", "frame_per_point": 1}
    return with_resource("AD_TIFF", folder.parent, folder.name, kwargs)


def ad_hdf5(folder):
    write_hdf5(folder / "nio.h5")
    return with_resource("AD_HDF5", folder, "nio.h5", {"frame_per_point": 1})


def ad_hdf5_of_several(folder):
    write_hdf5(folder / "nio.h5")
    return with_resource("AD_HDF5", folder, "nio.h5", {"frame_per_point": 2}, points=2)


def npy_sequence(folder):
    for number, frame in enumerate(FRAMES):
        np.save(folder / f"nio_{number}.npy", frame)
    return with_resource("NPY_SEQ", folder, "nio", {})


def stream_hdf5(folder):
    path = write_hdf5(folder / "nio.h5")
    parameters = {"dataset": "/entry/data/data", "chunk_shape": [1, 6, 8], "swmr": False}
    return with_stream("application/x-hdf5", f"file://localhost{path}", parameters)


def stream_hdf5_of_several(folder):
    path = write_hdf5(folder / "nio.h5")
    parameters = {"dataset": "/entry/data/data", "chunk_shape": [1, 6, 8]}
    return with_stream("application/x-hdf5", f"file://localhost{path}", parameters, ((0, 2),), (2, 6, 8))


def stream_hdf5_of_points(folder):
    path = write_hdf5(folder / "nio.h5", FRAMES.reshape(2, 2, 6, 8))
    parameters = {"dataset": "/entry/data/data"}
    return with_stream("application/x-hdf5", f"file://localhost{path}", parameters, ((0, 2),), (2, 6, 8))


def stream_tiff(folder, template="nio_{:06d}.tif"):
    for number, frame in enumerate(FRAMES):
        tifffile.imwrite(folder / f"nio_{number:06d}.tif", frame)
    parameters = {"template": template, "chunk_shape": [1, 6, 8], "filename": "nio"}
    return with_stream("multipart/related;type=image/tiff", f"file://localhost{folder}/", parameters)


def stream_tiff_with_an_older_template(folder):
    return stream_tiff(folder, template="%s%s_%6.6d.tif")


def datum_page(folder):
    documents = ad_hdf5(folder)
    data = [document for name, document in documents if name == "datum"]
    page = {
        "resource": "r",
        "datum_id": [datum["datum_id"] for datum in data],
        "datum_kwargs": {"point_number": [datum["datum_kwargs"]["point_number"] for datum in data]},
    }
    rest = [pair for pair in documents if pair[0] != "datum"]
    return [rest[0], ("datum_page", page), *rest[1:]]


KINDS = [
    ad_tiff,
    ad_hdf5,
    ad_hdf5_of_several,
    npy_sequence,
    stream_hdf5,
    stream_hdf5_of_several,
    stream_hdf5_of_points,
    stream_tiff,
    stream_tiff_with_an_older_template,
    datum_page,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_averaged(tmp_path, kind):
    run = collected(*kind(tmp_path))
    assert run.anomalies == {}
    assert mean_of(run).n_frames == 4
    np.testing.assert_array_equal(mean_of(run).mean, FRAMES.mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_written_late_are_read_at_the_end(tmp_path, kind):
    collector = collector_for(START)
    folder = tmp_path / "mounted"
    folder.mkdir()
    documents = kind(folder)
    hidden = folder.rename(tmp_path / "elsewhere")
    for name, document in documents:
        collector.feed(name, document)
    assert collector.snapshot().streams["primary"].images == {}
    hidden.rename(folder)
    run = collector.finish(given_up="test")
    assert run.anomalies == {}
    np.testing.assert_array_equal(mean_of(run).mean, FRAMES.mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_missing_files_are_named_with_advice(tmp_path, kind):
    folder = tmp_path / "mounted"
    folder.mkdir()
    documents = kind(folder)
    folder.rename(tmp_path / "gone")
    run = collected(*documents)
    said = "; ".join(run.anomalies)
    assert str(folder) in said
    assert "root_map" in said
    assert run.streams["primary"].images == {}


@pytest.mark.parametrize("kind", KINDS)
def test_broken_files_are_named(tmp_path, kind):
    documents = kind(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    said = "; ".join(collected(*documents).anomalies)
    assert str(tmp_path) in said
    assert "cannot be read" in said


def test_a_file_that_ends_early_gives_what_it_holds(tmp_path):
    documents = ad_hdf5(tmp_path)
    write_hdf5(tmp_path / "nio.h5", FRAMES[:3])
    run = collected(*documents)
    assert mean_of(run).n_points == 3
    assert "expected 4 frames" in "; ".join(run.anomalies)


def test_folders_mounted_elsewhere_are_mapped(tmp_path):
    documents = ad_hdf5(tmp_path)
    documents[0][1]["root"] = "/nsls2/data/xpd"
    run = collected(*documents, root_map={"/nsls2/data/xpd": str(tmp_path), "/nsls2": "/nowhere"})
    assert mean_of(run).n_frames == 4


def test_files_of_unknown_kinds_and_addresses_are_refused(tmp_path):
    documents = ad_hdf5(tmp_path)
    documents[0][1]["spec"] = "SPE"
    assert "found 'SPE'" in "; ".join(collected(*documents).anomalies)
    documents = with_stream("application/x-hdf5", "s3://bucket/a.h5", {})
    assert "fetch the run from Tiled" in "; ".join(collected(*documents).anomalies)


def test_stream_data_that_come_twice_count_once(tmp_path):
    documents = stream_hdf5(tmp_path)
    run = collected(*documents, documents[-1])
    assert mean_of(run).n_frames == 4
    assert run.anomalies == {"stream data came twice": 1}


def test_saturated_and_invalid_pixels_are_marked_and_not_averaged():
    full = np.full((2, 2), 65535, dtype=np.uint16)
    full[1] = 10
    gaps = np.array([[-1, 5], [5, 5]], dtype=np.int32)
    odd = np.array([[np.nan, np.inf], [1.0, 2.0]])
    for image, bad in ((full, [[True, True], [False, False]]), (gaps, gaps < 0), (odd, ~np.isfinite(odd))):
        run = collected(descriptor([2, 2]), event(1, image), event(2, np.ones_like(image)))
        np.testing.assert_array_equal(mean_of(run).bad, bad)
        assert np.isfinite(mean_of(run).mean).all()


def test_dark_frames_give_their_variance():
    random = np.random.default_rng(3)
    frames = random.normal(100.0, 3.0, (400, 6, 8))
    collector = collector_for({**START, "dark_frame": True})
    collector.feed(*descriptor([6, 8]))
    for number, frame in enumerate(frames, start=1):
        collector.feed(*event(number, frame))
    image = mean_of(collector.finish(given_up="test"))
    np.testing.assert_allclose(image.variance, frames.var(axis=0, ddof=1))


def test_images_of_absorption_runs_are_never_read(tmp_path):
    documents = ad_hdf5(tmp_path)
    collector = collector_for({"uid": "raw", "plan_name": "xafs", "element": "Fe", "edge": "K"})
    (tmp_path / "nio.h5").unlink()
    for name, document in documents:
        collector.feed(name, document)
    run = collector.finish(given_up="test")
    assert run.anomalies == {}
    assert run.streams["primary"].images == {}
