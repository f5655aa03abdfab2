"""The bundles of a folder, one folder per bundle: `<Element>-<modality>-<version>`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bluesky_xpdml.errors import BundleError, ModelNotFoundError
from bluesky_xpdml.models.bundle import MANIFEST, Bundle, load_bundle
from bluesky_xpdml.models.edge_calibration import EdgeCalibration, calibrated
from bluesky_xpdml.vocabulary import Modality

SHIPPED = Path(__file__).resolve().parent.parent / "trained_models"
"""Folder of the bundles that come with the package."""


class BundleStore:
    """Bundles of one folder, loaded on first use and cached.

    Parameters
    ----------
    folder
        Holds one folder per bundle.
    bundles
        Bundles in memory; they take precedence over those of the folder.
    pins
        Version by name, `{"Fe-xanes": 1}`, of bundles of which another version than the newest answers.
    calibrations
        Edge curves of a beamline by element, for XANES bundles.

    Examples
    --------
    >>> store = BundleStore.default()
    >>> store.find("Fe", "K", Modality.XANES).element
    'Fe'
    """

    def __init__(
        self,
        folder: Path,
        bundles: Iterable[Bundle] = (),
        pins: Mapping[str, int] | None = None,
        calibrations: Mapping[str, EdgeCalibration] | None = None,
    ) -> None:
        self.folder = folder
        self.calibrations = dict(calibrations or {})
        self.pins = dict(pins or {})
        self._found: dict[tuple[str, str, str], Bundle] = {}
        self._loaded = {bundle.name: bundle for bundle in bundles}

    @classmethod
    def default(cls) -> "BundleStore":
        """Return the store of the bundles that come with the package."""
        return cls(SHIPPED)

    def names(self) -> list[str]:
        """Return the names of all bundles, sorted."""
        return sorted({*self._loaded, *(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))})

    def load(self, name: str) -> Bundle:
        """Load a bundle by its folder's name.

        Raises
        ------
        ModelNotFoundError
            If there is no such folder.
        BundleError
            If the bundle is damaged.
        """
        if name not in self._loaded:
            if name not in self.names():
                known = ", ".join(self.names()) or "none"
                msg = f"no bundle {name!r} in {self.folder}: expected one of {known}"
                raise ModelNotFoundError(msg)
            self._loaded[name] = load_bundle(self.folder / name)
        return self._loaded[name]

    def find(self, element: str, edge: str, modality: Modality | str) -> Bundle:
        """Return the bundle that answers for an element, edge and modality: the pinned one, else the newest.

        Parameters
        ----------
        element, edge
            Chemical symbol and edge, `K`.
        modality
            What the bundle was trained on: a `Modality` or its text.

        Raises
        ------
        ModelNotFoundError
            If no bundle answers, or the pinned version is missing; the message lists what there is.
        """
        key = (element, edge, str(modality))
        if key not in self._found:
            bundle = self._answering(*key)
            own = self.calibrations.get(element) if modality == Modality.XANES else None
            self._found[key] = bundle if own is None else calibrated(bundle, own)
        return self._found[key]

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of a bundle, ascending; none if there is no such bundle.

        Parameters
        ----------
        name
            Without the version, `Fe-xanes`.

        Raises
        ------
        BundleError
            If a folder is not named as bundles are.
        """
        return tuple(sorted(version for found, version in self._named() if found == name))

    def chosen(self, name: str) -> int:
        """Return the version of a bundle, such as `Fe-xanes`, that answers: the pinned one, else the newest.

        A ModelNotFoundError is raised if there is no such bundle, or not in the pinned version.
        """
        versions = self.versions(name)
        if not versions:
            known = ", ".join(sorted({found for found, _ in self._named()})) or "none"
            raise ModelNotFoundError(f"no bundle {name} in {self.folder}: expected one of {known}")
        pinned = self.pins.get(name, versions[-1])
        if pinned not in versions:
            there = ", ".join(str(version) for version in versions)
            msg = (
                f"{name} is pinned to version {pinned}, in {self.folder} there is version {there}: "
                "pin one of these, or take the pin away"
            )
            raise ModelNotFoundError(msg)
        return pinned

    def _answering(self, element: str, edge: str, modality: Modality | str) -> Bundle:
        name = f"{element}-{modality}"
        if self.versions(name):
            bundle = self.load(f"{name}-{self.chosen(name)}")
            if bundle.manifest["edge"] == edge:
                return bundle
        known = sorted(
            found.split("-")[0] for found in dict(self._named()) if found.split("-")[1] == modality
        )
        wanted = f"the {edge} edge of {element or 'an unnamed element'}" if edge else element
        there = f"there are {modality} models for {', '.join(known) or 'nothing'}"
        raise ModelNotFoundError(f"no {modality} model for {wanted}: {there}")

    def _named(self) -> Iterator[tuple[str, int]]:
        """Yield name and version of every bundle."""
        for folder in self.names():
            parts = folder.rsplit("-", 1)
            if len(parts) != 2 or not parts[1].isdigit() or parts[0].count("-") != 1:
                msg = (
                    f"{self.folder / folder} is not named <Element>-<modality>-<version>: rename or remove it"
                )
                raise BundleError(msg)
            yield parts[0], int(parts[1])
