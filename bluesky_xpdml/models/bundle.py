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
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BundleError
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
TABLES = "tables/"
"""Names in the archive that begin so are tables, not arrays of a forest."""
CLASSES = (Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER)
"""Targets that are means over numbered classes."""


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
        return from_tables(self.tables, entry)

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
    manifest_bytes = _read(folder / MANIFEST)
    try:
        manifest = json.loads(manifest_bytes)
    except ValueError as error:
        msg = f"{folder / MANIFEST} is not JSON ({error}): fetch the bundle again"
        raise BundleError(msg) from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found not in READABLE:
        msg = (
            f"{folder.name} has format {found}, this version reads formats {READABLE[0]} to {READABLE[-1]}: "
            "update bluesky_xpdml"
        )
        raise BundleError(msg)
    files = manifest.get("files", {})
    if FORESTS not in files:
        msg = f"{folder / MANIFEST} holds no hash of {FORESTS}: it is no bundle's manifest, fetch it again"
        raise BundleError(msg)
    contents = {name: _checked(folder, name, expected) for name, expected in files.items()}
    try:
        forests, tables = _unpack(contents[FORESTS])
    except (lzma.LZMAError, zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        msg = f"{folder / FORESTS} holds no forests ({error}): expected plain arrays, fetch the bundle again"
        raise BundleError(msg) from error
    return Bundle(
        manifest=upgrade_manifest(manifest),
        forests=forests,
        sha256=hashlib.sha256(manifest_bytes).hexdigest(),
        tables=tables,
    )


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}): expected a bundle's file, fetch the bundle again"
        raise BundleError(msg) from error


def _checked(folder: Path, name: str, expected: str) -> bytes:
    content = _read(folder / name)
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
    with np.load(io.BytesIO(lzma.decompress(content)), allow_pickle=False) as archive:
        for name in archive.files:
            if name.startswith(TABLES):
                tables[name.removeprefix(TABLES)] = archive[name].astype(np.float64)
                continue
            target, _, key = name.rpartition(".")
            grouped.setdefault(target, {})[key] = archive[name]
    return {target: expand(arrays) for target, arrays in grouped.items()}, tables
