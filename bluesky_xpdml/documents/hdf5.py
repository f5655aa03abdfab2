"""Datasets in HDF5 files that documents name: nothing that such a file refers to is opened unchecked.

A small HDF5 file can claim a dataset of terabytes, and can refer to others: by links, by virtual datasets,
and by external storage, which may be any file of the computer. Links and the sources of virtual datasets are
followed under the same roots as the file itself; external storage is refused.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError
from bluesky_xpdml.files import FileAccess, by_descriptor, refused, require_decoded

MOST_LINKS = 16
"""Links that lead to one dataset; more are a circle."""
MOST_SOURCES = 1_000
"""Files and datasets that one virtual dataset may be made of."""


@contextmanager
def open_dataset(path: Path, access: FileAccess, name: str, *, swmr: bool = False) -> Iterator[Any]:
    """Open a dataset of numbers for the length of a `with` block; its values are not read yet.

    A DocumentError is raised if the file or one that it refers to may not be opened, or it is no dataset of
    numbers in chunks that fit into memory; an OSError or a KeyError if there is none.
    """
    with ExitStack() as stack:
        search = _Search(stack, access, path, swmr=swmr)
        place = search.find(_Place(search.opened(path), path), name)
        dataset = place.node
        _require_stored_here(dataset, search.name)
        if dataset.is_virtual:
            with ExitStack() as checked:
                # Closed before it is read: older HDF5 opens no source that is open without its lock.
                _require_sources(_Search(checked, access, path, swmr=swmr), place)
        require_decoded(dataset.chunks or (), dataset.dtype.itemsize, search.name)
        yield dataset


@dataclass(frozen=True, slots=True)
class _Place:
    """A group or a dataset, and the file that it is in."""

    node: Any
    path: Path


class _Search:
    """Follows links from group to group, and from file to file."""

    def __init__(self, stack: ExitStack, access: FileAccess, path: Path, *, swmr: bool) -> None:
        self._stack, self._access, self._swmr = stack, access, swmr
        self.name = access.named(path)
        """The file that the document names; what it refers to is its content, and not in messages."""
        self._n_links = 0

    def opened(self, path: Path) -> Any:
        """Return an HDF5 file, open until the stack ends."""
        import h5py

        file = self._stack.enter_context(self._access.opened(path))
        # The detector may still hold the lock of a file that it is writing.
        opened = h5py.File(by_descriptor(file), "r", locking=False, swmr=self._swmr)
        return self._stack.enter_context(opened)

    def referred(self, path: Path) -> Any:
        """Return an HDF5 file that another one refers to, open until the stack ends."""
        try:
            return self.opened(path)
        except DocumentError:
            raise refused(
                f"{self.name} refers to a file that was not opened: it is outside of the folders under "
                "[roots] in the settings, or no regular file"
            ) from None
        except OSError:
            raise MissingDataError(
                f"{self.name} refers to a file that is not there, or cannot be read"
            ) from None

    def find(self, place: _Place, name: str) -> _Place:
        """Return the dataset of a name, seen from a file."""
        import h5py

        parts = [part for part in name.split("/") if part]
        while parts:
            place, parts = self._step(place, parts)
        if not isinstance(place.node, h5py.Dataset):
            raise FileFormatError(f"expected a dataset in {self.name}, found a group")
        return place

    def _step(self, place: _Place, parts: list[str]) -> tuple[_Place, list[str]]:
        """Return the next group on the way, and what is left of the way."""
        import h5py

        if not isinstance(place.node, h5py.Group):
            raise FileFormatError(f"expected a group in {self.name}, found a dataset")
        link = place.node.get(parts[0], getlink=True)
        if link is None:
            raise KeyError(parts[0])
        if isinstance(link, h5py.HardLink):
            return _Place(place.node[parts[0]], place.path), parts[1:]
        self._n_links += 1
        if self._n_links > MOST_LINKS:
            raise FileFormatError(f"expected at most {MOST_LINKS} links in {self.name}, found more")
        further = [*(part for part in link.path.split("/") if part), *parts[1:]]
        if isinstance(link, h5py.ExternalLink):
            path = place.path.parent / link.filename
            return _Place(self.referred(path), path), further
        start = place.node.file if link.path.startswith("/") else place.node
        return _Place(start["/"] if link.path.startswith("/") else start, place.path), further


def _require_stored_here(dataset: Any, name: str) -> None:
    if dataset.external:
        raise refused(f"expected numbers in {name} itself, found a dataset stored in other files")
    if dataset.dtype.hasobject:
        raise FileFormatError(f"expected a dataset of numbers in {name}, found texts or objects")


def _require_sources(search: _Search, place: _Place) -> None:
    """Refuse a virtual dataset whose sources may not be opened, or refer to others in turn."""
    sources = {(source.file_name, source.dset_name) for source in place.node.virtual_sources()}
    if len(sources) > MOST_SOURCES or any("%" in name for source in sources for name in source):
        raise refused(
            f"expected a virtual dataset of at most {MOST_SOURCES} named parts in {search.name}, found "
            "another"
        )
    for file_name, name in sorted(sources):
        path = place.path if file_name == "." else place.path.parent / file_name
        # HDF5 opens sources by itself, so a source that is missing counts as zeros: it is an error here.
        part = search.find(_Place(search.referred(path), path), name).node
        _require_stored_here(part, search.name)
        if part.is_virtual:
            raise refused(f"expected a virtual dataset of stored ones in {search.name}, found a nested one")
        require_decoded(part.chunks or (), part.dtype.itemsize, search.name)
