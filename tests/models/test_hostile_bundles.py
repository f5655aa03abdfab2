"""Every fault of a bundle is a `BundleError`, whatever a stranger put into it; nothing else is opened."""

import hashlib
import io
import json
import lzma
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import BundleError, ModelError, XpdmlError
from bluesky_xpdml.models.bundle import (
    CARD,
    FORESTS,
    LARGEST_UNPACKED,
    MANIFEST,
    load_bundle,
)
from bluesky_xpdml.models.edge_calibration import read_calibrations
from bluesky_xpdml.models.golden import check_golden
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import AbsorptionScan, PairDistribution
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import Modality

Write = Callable[..., Path]
HIDDEN = "daemon:x:1:1"


def rewritten(folder: Path, content: bytes) -> Path:
    """Replace the forests, and the hash of them, as somebody could who means harm."""
    (folder / FORESTS).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][FORESTS] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert HIDDEN not in str(caught.value)
    assert len(str(caught.value)) < 2_000
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\0b", ".hidden", "x" * 200, "\ud800", "-\n"],
)
def test_a_manifest_cannot_name_files_elsewhere(write_small: Write, name: str) -> None:
    folder = write_small()
    (folder.parent / "secret").write_text(HIDDEN)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = hashlib.sha256(HIDDEN.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "expected at most 16 plain names of files in its folder" in refusal(folder)


def test_a_file_of_a_bundle_cannot_be_a_link_out_of_it(write_small: Write) -> None:
    folder = write_small()
    (folder / CARD).unlink()
    (folder / CARD).symlink_to("/etc/passwd")
    assert "is a link out of the folder" in refusal(folder)
    elsewhere = folder.parent / "linked"
    (folder / CARD).unlink()
    (folder / CARD).write_text("# A card\n")
    elsewhere.symlink_to(folder)
    assert load_bundle(elsewhere).element == "Fe", "the folder itself may be linked, as in a checkout"


@pytest.mark.parametrize("name", [MANIFEST, FORESTS, CARD])
def test_pipes_devices_and_folders_are_no_files_of_a_bundle(write_small: Write, name: str) -> None:
    folder = write_small()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "found a pipe" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert "is a link out of the folder" in refusal(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert "found a folder" in refusal(folder)


def test_a_quarter_of_a_gigabyte_in_kilobytes_is_not_unpacked(write_small: Write) -> None:
    packer = lzma.LZMACompressor(preset=0)
    block = bytes(1 << 24)
    content = b"".join([*(packer.compress(block) for _ in range(16)), packer.flush()])
    assert len(content) < 80_000
    folder = rewritten(write_small(), content)
    tracemalloc.start()
    assert f"more than {LARGEST_UNPACKED} bytes once it is unpacked" in refusal(folder)
    assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST_UNPACKED
    tracemalloc.stop()


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return lzma.compress(buffer.getvalue(), preset=0)


def claim(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    """Return an NPY file of a header alone."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        packed(("a.npy", bytes(LARGEST_UNPACKED + 1)), method=zipfile.ZIP_DEFLATED),
        packed(("a.npy", claim((10**6, 10**6)))),
        packed(("a.npy", claim((1000, 1000)))),
        packed(("a.npy", claim((10**30,)))),
        packed(("a.npy", claim((2,), "<U3") + b"abc" * 8)),
        packed(("a.npy", HIDDEN.encode())),
        packed(("oxidation_state.size.npy", claim((1,), "<i8") + bytes(8))),
        lzma.compress(b"PK\x03\x04" + bytes(100)),
        lzma.compress(bytes(1000))[:-10],
    ],
    ids=["deflated", "huge", "longer", "absurd", "texts", "no npy", "one array", "no zip", "cut"],
)
def test_arrays_that_claim_more_than_they_hold_are_refused(write_small: Write, content: bytes) -> None:
    folder = rewritten(write_small(), content)
    tracemalloc.start()
    assert "holds no forests" in refusal(folder)
    assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST_UNPACKED
    tracemalloc.stop()


ENERGY = np.arange(6950.0, 7400.0)
DISTANCE = np.arange(0.0, 30.0, 0.01)


@pytest.fixture(scope="module")
def predict() -> Callable[[BundleStore], None]:
    """Return a function that predicts from a spectrum or a pair distribution function, as a run does."""
    scan = AbsorptionScan(
        energy=ENERGY, mu=np.arctan((ENERGY - 7124.0) / 2.0) / np.pi + 0.5, element="Fe", edge="K"
    )
    xanes = reduce_xanes(scan, XanesSettings(energy_offset=0.0))
    curve = np.sin(3.0 * DISTANCE) * np.exp(-((DISTANCE - 2.0) ** 2)) + 0.1 * np.sin(5.0 * DISTANCE)
    pdf = PairDistribution(
        r=DISTANCE, g=curve, composition={"Ni": 1.0, "O": 1.0}, settings={"q_max": 22.0}, source="a.gr"
    )

    def predicted(store: BundleStore) -> None:
        if any(name.startswith("Fe") for name in store.names()):
            predict_xanes(xanes, store)
        else:
            predict_pdf(pdf, store, Modality.PDF, element="Ni")

    return predicted


class Folder:
    """A folder that no report of a failure repeats."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = json.loads((path / MANIFEST).read_bytes())


@pytest.fixture(scope="module", params=["Fe-xanes-2", "Ni-pdf-2"])
def shipped(request: Any, explainable: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return a bundle with every entry of a shipped one and few trees, alone in its folder."""
    folder = tmp_path_factory.mktemp("hostile") / request.param
    shutil.copytree(explainable / request.param, folder)
    return Folder(folder)


def loaded(folder: Folder, content: bytes, predict: Callable[[BundleStore], None]) -> bool:
    """Predict by a bundle with another manifest; only errors of this package may come of it."""
    (folder.path / MANIFEST).write_bytes(content)
    try:
        bundle = load_bundle(folder.path)
    except BundleError:
        return False
    try:
        check_golden(bundle)
        predict(BundleStore(folder.path.parent))
    except XpdmlError:
        return False
    return True


def test_the_bundle_that_is_changed_answers_before(shipped: Folder, predict: Any) -> None:
    assert loaded(shipped, json.dumps(shipped.manifest).encode(), predict)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    place=st.floats(0.0, 1.0, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.sampled_from([None, 0, 1, 9]),
)
@example(place=0.0, byte=0, cut=None)
def test_any_byte_of_a_manifest_may_be_wrong(
    shipped: Folder, predict: Any, place: float, byte: int, cut: int | None
) -> None:
    content = bytearray((json.dumps(shipped.manifest, indent=1) + "\n").encode())
    where = int(place * len(content))
    if cut is None:
        content[where] = byte
    else:
        del content[where : where + cut if cut else len(content)]
    loaded(shipped, bytes(content), predict)


JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    [],
    {},
    [1],
    [[1]],
    {"a": 1},
)


UNUSED = {"metrics", "training", "recipe", "licence", "packages", "importances"}
"""Entries that no prediction looks at."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every entry of a manifest; of lists only to the first."""
    found = [path]
    if isinstance(value, dict):
        found += [way for key in value for way in places(value[key], (*path, key))]
    elif isinstance(value, list) and value:
        found += places(value[0], (*path, 0))
    return found


def changed(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    """Return a copy of a value with one entry replaced, or left out if the junk is an Ellipsis."""
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and junk is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], junk)
    return copy


def test_any_entry_of_a_manifest_may_be_missing_or_of_another_kind(shipped: Folder, predict: Any) -> None:
    ways = [way for way in places(shipped.manifest) if way and way[0] not in UNUSED]
    for number, way in enumerate(ways):
        for junk in (..., JUNK[number % len(JUNK)]):
            loaded(shipped, json.dumps(changed(shipped.manifest, way, junk)).encode(), predict)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"null",
        b'"text"',
        b'{"format": 2.0, "files": {}}',
        b'{"format": true, "files": {}}',
        b'{"format": [], "files": {}}',
        b'{"format": 2, "files": [["forests.npz.xz"]]}',
        b'{"format": 2, "files": {"forests.npz.xz": 5}}',
        b"x" * 9_000_000,
    ],
)
def test_texts_that_are_no_manifest_are_refused(write_small: Write, content: bytes) -> None:
    folder = write_small()
    (folder / MANIFEST).write_bytes(content)
    refusal(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"edge_model": {"valence": [2.0, 3.0], "edge": [1.0], "sigma": [1.0, 1.0]}}, "of one length"),
        ({"edge_model": {"valence": [2.0, 3.0], "edge": [1.0, 2.0], "sigma": [0.0, 1.0]}}, "of one length"),
        ({"targets": {"oxidation_state": {"classes": [1.0, 2.0, 3.0]}}}, "has 3 classes for oxidation_state"),
        ({"targets": {"geometry": {"classes": ["tetrahedron"]}}}, "polyhedra named by their corners"),
        ({"targets": {"bond_length": {"half_width": "wide"}}}, r"targets\.bond_length\.half_width"),
        ({"element": "Fe; rm"}, "faulty at element"),
        ({"name": "../Fe"}, "faulty at name"),
        ({"version": "1"}, "faulty at version"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(
    write_small: Write, entry: dict[str, Any], message: str
) -> None:
    folder = write_small()
    manifest = json.loads((folder / MANIFEST).read_bytes()) | entry
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "elements": 5}',
        b'{"format": 1, "elements": [[]]}',
        b'{"format": 1, "elements": ["a"]}',
        b'{"format": 1, "elements": [{"element": "Fe", "covariance": [[1, 2], [3, "x"]]}]}',
        b"[" * 50_000,
        b"x" * 2_000_000,
    ],
)
def test_what_is_no_file_of_calibrations_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foil.json"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        read_calibrations(path)
    with pytest.raises(ModelError, match="a device"):
        read_calibrations(Path("/dev/zero"))
