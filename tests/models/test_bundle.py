"""A bundle is read back as it was written, or refused."""

import hashlib
import io
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_xpdml.errors import BundleError
from bluesky_xpdml.models.bundle import CARD, FORESTS, MANIFEST, load_bundle, manifest_sha256
from bluesky_xpdml.models.forest import Forest

Write = Callable[..., Path]


def rewrite(folder: Path, content: bytes) -> None:
    """Replace the forests, and the hash of them, as somebody could who means harm."""
    (folder / FORESTS).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][FORESTS] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_bundle_is_read_back_as_it_was_written(
    write_small: Write, small_forests: dict[str, Forest]
) -> None:
    folder = write_small(version=7, note=["kept", 1.5])
    bundle = load_bundle(folder)
    assert bundle.element == "Fe"
    assert bundle.manifest["note"] == ["kept", 1.5]
    assert bundle.edge_model.edge.tolist() == [10.5, 13.7]
    assert (bundle.reference.name, bundle.reference.version) == ("Fe-xanes", 7)
    assert bundle.reference.sha256 == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert bundle.reference.sha256 == manifest_sha256(bundle.manifest)
    rows = np.random.default_rng(1).random((20, 2))
    assert bundle.forests.keys() == small_forests.keys()
    for target, forest in small_forests.items():
        np.testing.assert_allclose(bundle.forests[target].predict(rows), forest.predict(rows), atol=1e-6)


def test_writing_twice_gives_the_same_bytes(write_small: Write) -> None:
    first = {path.name: path.read_bytes() for path in write_small().iterdir()}
    assert set(first) == {MANIFEST, FORESTS, CARD}
    assert {path.name: path.read_bytes() for path in write_small().iterdir()} == first


@pytest.mark.parametrize("name", [FORESTS, CARD])
@pytest.mark.parametrize("place", [0, -1])
def test_one_altered_byte_is_noticed_and_both_hashes_named(write_small: Write, name: str, place: int) -> None:
    folder = write_small()
    content = bytearray((folder / name).read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[place] ^= 1
    (folder / name).write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(BundleError, match=rf"{name} was altered.*{expected[:12]}.*{found[:12]}"):
        load_bundle(folder)


def test_an_altered_manifest_has_another_hash(write_small: Write) -> None:
    folder = write_small()
    before = load_bundle(folder).reference.sha256
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace("13.7", "13.8"))
    assert load_bundle(folder).reference.sha256 != before


@pytest.mark.parametrize("name", [MANIFEST, FORESTS, CARD])
def test_a_missing_file_is_named(write_small: Write, name: str) -> None:
    folder = write_small()
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"format": 9, "files": {}}', "has format 9, this version reads formats 1 to 2"),
        ("{}", "has format None"),
        ("[1]", "has format None"),
        ('{"format": 1}', "holds no hash of forests.npz.xz"),
        ('{"format": 1, "files": {}}', "holds no hash of forests.npz.xz"),
    ],
)
def test_what_is_no_manifest_is_refused(write_small: Write, text: str, message: str) -> None:
    folder = write_small()
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


class Harm:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_are_never_opened(write_small: Write, tmp_path: Path) -> None:
    folder = write_small()
    mark = tmp_path / "executed"
    buffer = io.BytesIO()
    array = np.array([Harm(mark)], dtype=object)
    np.savez(buffer, **{"oxidation_state.feature": array})  # type: ignore[arg-type]
    rewrite(folder, lzma.compress(buffer.getvalue()))
    with pytest.raises(BundleError, match=r"holds no forests.*allow_pickle"):
        load_bundle(folder)
    assert not mark.exists()
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)["oxidation_state.feature"]
    assert mark.exists(), "the harm of this test is harmless"


@pytest.mark.parametrize(
    "content",
    [b"", b"not compressed", lzma.compress(b"not an archive"), lzma.compress(b"")],
    ids=["empty", "not xz", "not npz", "empty xz"],
)
def test_what_holds_no_forests_is_refused(write_small: Write, content: bytes) -> None:
    folder = write_small()
    rewrite(folder, content)
    with pytest.raises(BundleError, match="holds no forests"):
        load_bundle(folder)


def test_forests_that_lack_an_array_are_refused(write_small: Write) -> None:
    folder = write_small()
    with np.load(io.BytesIO(lzma.decompress((folder / FORESTS).read_bytes()))) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "bond_length.scale"}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    rewrite(folder, lzma.compress(buffer.getvalue()))
    with pytest.raises(BundleError, match=r"holds no forests.*scale"):
        load_bundle(folder)


def test_a_bundle_of_another_name_is_the_same_bundle(write_small: Write, tmp_path: Path) -> None:
    folder = write_small()
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    assert load_bundle(moved).sha256 == load_bundle(folder).sha256
