"""Where bundles are found: one folder a bundle, `<Element>-<modality>-<version>`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from bluesky_xpdml.errors import BundleError, ModelNotFoundError
from bluesky_xpdml.models.bundle import MANIFEST, Bundle, load_bundle

SHIPPED = Path(__file__).resolve().parent.parent / "trained_models"
"""Folder of the bundles that come with the package."""


class BundleStore:
    """Bundles of one folder, loaded on first use and kept.

    Parameters
    ----------
    folder
        Holds one folder a bundle.
    bundles
        Bundles in memory; they stand before those of the folder.

    Examples
    --------
    >>> store = BundleStore.default()
    >>> store.find("Fe", "K", "xanes").element
    'Fe'
    """

    def __init__(self, folder: Path, bundles: Iterable[Bundle] = ()) -> None:
        self.folder = folder
        self._found: dict[tuple[str, str, str], Bundle] = {}
        self._loaded = {f"{b.reference.name}-{b.reference.version}": b for b in bundles}

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

    def find(self, element: str, edge: str, modality: str) -> Bundle:
        """Return the newest bundle for an element, edge and modality.

        Parameters
        ----------
        element, edge
            Chemical symbol and edge, `K`.
        modality
            `xanes`, `pdf`, `dpdf`, `xanes+pdf` or `xanes+dpdf`.

        Raises
        ------
        ModelNotFoundError
            If no bundle answers; the message lists the elements that have one.
        """
        wanted = (element, edge, modality)
        if wanted not in self._found:
            self._found[wanted] = self._newest(*wanted)
        return self._found[wanted]

    def _newest(self, element: str, edge: str, modality: str) -> Bundle:
        versions = sorted(self._versions(element, modality))
        if not versions or self.load(versions[-1][1]).manifest["edge"] != edge:
            known = sorted({name.split("-")[0] for name in self.names() if name.split("-")[1] == modality})
            wanted = f"the {edge} edge of {element or 'an unnamed element'}" if edge else element
            there = f"there are {modality} models for {', '.join(known) or 'nothing'}"
            msg = f"no {modality} model for {wanted}: {there}"
            raise ModelNotFoundError(msg)
        return self.load(versions[-1][1])

    def _versions(self, element: str, modality: str) -> Iterator[tuple[int, str]]:
        for name in self.names():
            parts = name.rsplit("-", 2)
            if len(parts) != 3 or not parts[2].isdigit():
                msg = f"{self.folder / name} is not named <Element>-<modality>-<version>: rename or remove it"
                raise BundleError(msg)
            if parts[:2] == [element, modality]:
                yield int(parts[2]), name
