"""Model bundles: a manifest, compact forests and a card, checked by hash, without code.

::

    Fe-xanes-1/
      manifest.json    what the bundle is, needs and was measured to give; SHA-256 of the other files
      forests.npz.xz   arrays of every forest, `<forest>.<array>`, and tables of numbers, `tables/<name>`:
                       an NPZ archive, compressed by xz
      card.md          the same for people
"""

import hashlib
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BundleError, DocumentError
from bluesky_xpdml.files import read_npy, read_regular
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.forest import Forest, expand
from bluesky_xpdml.models.novelty import NOVELTY, NoveltyReference, from_tables, novelty
from bluesky_xpdml.records import FloatArray, ModelReference
from bluesky_xpdml.vocabulary import Descriptor

FORMAT = 2
"""Number of the bundle format that is written. Format 2 added tables to the forests; format 1 has none."""
READABLE = (1, 2)
"""Formats that are read; others are refused."""
MANIFEST = "manifest.json"
FORESTS = "forests.npz.xz"
CARD = "card.md"
LARGEST_MANIFEST = 8_000_000
"""The longest of those that are shipped has 100 kB [bytes]."""
LARGEST_FILE = 64_000_000
"""All bundles that are shipped have 30 MB together [bytes]."""
LARGEST_UNPACKED = 128_000_000
"""The largest of those that are shipped has 3.4 MB of arrays; xz itself needs 65 MB to unpack [bytes]."""
MOST_FILES = 16
UNREADABLE = (
    lzma.LZMAError,
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What is raised for a packed file that is not what it should be; NotImplementedError is a RuntimeError."""
_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,99}")
TABLES = "tables/"
"""Names in the archive that begin so are tables, not arrays of a forest."""
CLASSES = (Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER)
"""Targets that are means over numbered classes."""


class Entries(dict[str, Any]):
    """Entries of a bundle by name; one that is missing is a fault of the bundle."""

    def __missing__(self, key: str) -> Any:
        """Raise the error of a bundle that lacks an entry."""
        raise BundleError(f"expected the entry {key!r} in a bundle, found none: fetch it again")


def _entries(value: Any) -> Any:
    """Return a value in which every mapping knows what it lacks."""
    is_mapping = isinstance(value, Mapping)
    return Entries({key: _entries(each) for key, each in value.items()}) if is_mapping else value


def upgrade_manifest(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a copy of a manifest of any readable format with the keys of the present format."""
    if manifest["format"] != 1:
        return manifest
    targets = {
        name: _with_thresholds(target) if name in CLASSES else target
        for name, target in manifest.get("targets", {}).items()
    }
    if "edge_model" not in manifest:
        return {**manifest, "targets": targets}
    state = targets.get(Descriptor.OXIDATION_STATE)
    if state is not None:
        targets[Descriptor.OXIDATION_STATE] = {
            "interval_factor_uncalibrated": state["interval_factor"],
            "interval_floor": 0.0,
            "forest_sigma_without_peak": state["forest_sigma"],
            "knows_pre_edge_peaks": True,
            **state,
        }
    edge_model = {"pre_edge_shift": 0.0, **manifest["edge_model"]}
    return {**manifest, "edge_model": edge_model, "targets": targets}


def _with_thresholds(target: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"thresholds": [0.95] * len(target.get("classes", ())), **target}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One model bundle, loaded and checked."""

    manifest: Mapping[str, Any]
    """The parsed manifest."""
    forests: Mapping[str, Forest]
    """By target: `oxidation_state`, `coordination_number`, `bond_length`."""
    sha256: str
    """Hash of the manifest file."""
    tables: Mapping[str, FloatArray] = field(default_factory=dict)
    """Other arrays of the models by name; `background` holds the features of some rows of the training."""

    @property
    def element(self) -> str:
        """Element that the bundle answers for."""
        return str(self.manifest["element"])

    @property
    def name(self) -> str:
        """Name with version, as the folder is called: `Fe-xanes-1`."""
        return f"{self.manifest['name']}-{self.manifest['version']}"

    @property
    def targets(self) -> Mapping[str, Any]:
        """Settings of each target, by descriptor."""
        targets: Mapping[str, Any] = self.manifest["targets"]
        return targets

    @cached_property
    def reference(self) -> ModelReference:
        """Reference of the bundle in its predictions."""
        return ModelReference(
            name=self.manifest["name"], version=self.manifest["version"], sha256=self.sha256
        )

    @cached_property
    def edge_model(self) -> EdgeModel:
        """Curve of the measured edge position against the oxidation state."""
        stored = self.manifest["edge_model"]
        if stored is None:
            raise BundleError(f"expected the edge model of {self.name} in its manifest, found none")
        return EdgeModel(
            **{key: np.asarray(stored[key], dtype=float) for key in ("valence", "edge", "sigma")},
            pre_edge_shift=stored["pre_edge_shift"],
        )

    @cached_property
    def familiar(self) -> NoveltyReference | None:
        """What familiar rows look like; None if the bundle does not hold it."""
        entry = self.manifest.get(NOVELTY)
        if entry is None or "novelty_centre" not in self.tables:
            return None
        try:
            return from_tables(self.tables, entry)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{self.name}: the novelty reference is damaged, fetch the bundle again"
            ) from error

    def novelty_diagnostics(self, row: FloatArray) -> dict[str, float]:
        """Return `novelty_score`, `novelty_p_value` and `novelty_threshold` of a row of features.

        A row that scores above the threshold is called novel. Empty if the bundle holds no reference.
        """
        if self.familiar is None:
            return {}
        found = novelty(self.familiar, row)
        return {
            "novelty_score": found.score,
            "novelty_p_value": found.p_value,
            "novelty_threshold": self.manifest[NOVELTY]["threshold"],
        }

    def require_input(self, computed: Mapping[str, Any], part: str = "") -> None:
        """Refuse with a BundleError a bundle that was trained on other features than those computed.

        `computed` describes them as in the manifest; `part` is the entry of the manifest's input to compare
        with.
        """
        expected = self.manifest["input"][part] if part else self.manifest["input"]
        for key, value in computed.items():
            if expected.get(key) != value:
                raise BundleError(
                    f"{self.name} expects {f'{part} {key}'.lstrip()} {expected.get(key)}, this version "
                    f"computes {value}: use the bundle with the version it came with, or train it again"
                )


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle from its folder and check every hash.

    A BundleError is raised if a file is missing, altered or cannot be unpacked, or the format is unknown.
    """
    manifest_bytes = _read(folder, MANIFEST, LARGEST_MANIFEST)
    try:
        manifest = json.loads(manifest_bytes)
    except (ValueError, RecursionError) as error:
        msg = f"{folder / MANIFEST} is not JSON ({error}): fetch the bundle again"
        raise BundleError(msg) from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if type(found) is not int or found not in READABLE:
        msg = (
            f"{folder.name} has format {str(found)[:40]}, this version reads formats {READABLE[0]} to "
            f"{READABLE[-1]}: update bluesky_xpdml"
        )
        raise BundleError(msg)
    files = _files(manifest.get("files"), folder)
    contents = {name: _checked(folder, name, expected) for name, expected in files.items()}
    try:
        forests, tables = _unpack(contents[FORESTS])
    except UNREADABLE as error:
        msg = f"{folder / FORESTS} holds no forests ({error}): expected plain arrays, fetch the bundle again"
        raise BundleError(msg) from error
    return Bundle(
        manifest=_manifest(folder, manifest, forests),
        forests=Entries(forests),
        sha256=hashlib.sha256(manifest_bytes).hexdigest(),
        tables=Entries(tables),
    )


def _manifest(folder: Path, manifest: Mapping[str, Any], forests: Mapping[str, Forest]) -> Entries:
    """Return the manifest in the present format, checked entry by entry."""
    from bluesky_xpdml.models.manifest import check_manifest

    outputs = {target: forest.value.shape[1] for target, forest in forests.items()}
    try:
        upgraded = upgrade_manifest(manifest)
        check_manifest(upgraded, outputs)
        return Entries(_entries(upgraded))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, BundleError) else "an entry is of another type than expected"
        raise BundleError(f"{folder / MANIFEST}: {said}") from error


def _files(files: object, folder: Path) -> dict[str, str]:
    """Return the hashes of the files of a bundle, by names that stay in its folder."""
    if not isinstance(files, dict) or FORESTS not in files:
        msg = f"{folder / MANIFEST} holds no hash of {FORESTS}: it is no bundle's manifest, fetch it again"
        raise BundleError(msg)
    for name, digest in files.items():
        if not _NAME.fullmatch(name) or not isinstance(digest, str) or len(files) > MOST_FILES:
            msg = (
                f"{folder / MANIFEST}: expected at most {MOST_FILES} plain names of files in its folder with "
                f"their SHA-256, found {name[:80]!r}: fetch the bundle again"
            )
            raise BundleError(msg)
    return files


def write_bundle(
    folder: Path,
    manifest: Mapping[str, Any],
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]],
    card: str,
    tables: Mapping[str, NDArray[np.generic]] | None = None,
) -> None:
    """Write a bundle to a folder; the hashes of its files are added to the manifest.

    The manifest holds everything but `format` and `files` as plain JSON values; `forests` the quantised
    arrays of each forest by target; `card` Markdown for people; `tables` other arrays in the type that they
    are stored in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {FORESTS: _pack(forests, tables or {}), CARD: card.encode()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    complete = {"format": FORMAT, **manifest, "files": hashes}
    (folder / MANIFEST).write_bytes(_encoded(complete))


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 that a manifest of plain JSON values has once it is written."""
    return hashlib.sha256(_encoded(manifest)).hexdigest()


def _encoded(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _read(folder: Path, name: str, limit: int) -> bytes:
    path = folder / name
    try:
        if path.resolve().parent != folder.resolve():
            msg = f"{path} is a link out of the folder of the bundle: expected the file itself"
            raise BundleError(msg)
        return read_regular(path, limit)
    except DocumentError as error:
        raise BundleError(f"{error}; fetch the bundle again") from error
    except (OSError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or "a circle of links"
        msg = f"{path} cannot be read ({said}): expected a bundle's file, fetch the bundle again"
        raise BundleError(msg) from error


def _checked(folder: Path, name: str, expected: str) -> bytes:
    content = _read(folder, name, LARGEST_FILE)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        msg = (
            f"{folder.name}/{name} was altered: its manifest expects SHA-256 {expected[:12]}..., "
            f"the file has {found[:12]}...; fetch the bundle again"
        )
        raise BundleError(msg)
    return content


def _pack(
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]], tables: Mapping[str, NDArray[np.generic]]
) -> bytes:
    buffer = io.BytesIO()
    named = {f"{target}.{key}": value for target, arrays in forests.items() for key, value in arrays.items()}
    named |= {f"{TABLES}{name}": values for name, values in tables.items()}
    np.savez(buffer, **named)  # type: ignore[arg-type]
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def _unpack(content: bytes) -> tuple[dict[str, Forest], dict[str, FloatArray]]:
    tables: dict[str, FloatArray] = {}
    grouped: dict[str, dict[str, NDArray[np.generic]]] = {}
    for name, values in _arrays(_decompressed(content)):
        if name.startswith(TABLES):
            tables[name.removeprefix(TABLES)] = values.astype(np.float64)
            continue
        target, _, key = name.rpartition(".")
        grouped.setdefault(target, Entries())[key] = values
    return {target: expand(arrays) for target, arrays in grouped.items()}, tables


def _decompressed(content: bytes) -> bytes:
    """Return what xz packed: a stream of a few kilobytes can stand for gigabytes."""
    stream = lzma.LZMADecompressor(memlimit=LARGEST_UNPACKED)
    unpacked = stream.decompress(content, max_length=LARGEST_UNPACKED + 1)
    if len(unpacked) > LARGEST_UNPACKED:
        raise ValueError(f"more than {LARGEST_UNPACKED} bytes once it is unpacked")
    if not stream.eof:
        raise EOFError("the file ends early")
    return unpacked


def _arrays(unpacked: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of an NPZ archive by their names."""
    with zipfile.ZipFile(io.BytesIO(unpacked)) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > LARGEST_UNPACKED:
            raise ValueError(f"more than {LARGEST_UNPACKED} bytes once it is unpacked")
        for part in parts:
            with archive.open(part) as file:
                values = read_npy(cast("BinaryIO", file), part.file_size, part.filename)
            if values.dtype.kind not in "biuf":
                raise ValueError(f"an array of the type {values.dtype}")
            yield part.filename.removesuffix(".npy"), values
