"""Resources and data of a run: what its events and stream data name when they point at files."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

MAXIMUM_DOCUMENTS = 100_000
"""Documents of external files that are remembered for one run."""


class FileReferences:
    """Remembers the documents of external files of one run.

    Examples
    --------
    >>> references = FileReferences()
    >>> references.take("resource", {"uid": "r", "spec": "APB"})
    >>> references.take("datum", {"datum_id": "r/0", "resource": "r", "datum_kwargs": {}})
    >>> references.resource_of("r/0")[0]["spec"]
    'APB'
    """

    def __init__(self) -> None:
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._data: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self.faults: Counter[str] = Counter()

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document of external files other than a stream's datum.

        Parameters
        ----------
        name
            `resource`, `datum`, `datum_page` or `stream_resource`.
        doc
            The document.
        """
        if len(self._resources) + len(self._data) >= MAXIMUM_DOCUMENTS:
            self.faults[f"documents of files beyond {MAXIMUM_DOCUMENTS} were left out"] += 1
        elif name in {"resource", "stream_resource"} and isinstance(doc.get("uid"), str):
            self._resources[doc["uid"]] = doc
        elif (
            name == "datum" and isinstance(doc.get("datum_id"), str) and isinstance(doc.get("resource"), str)
        ):
            self._data[doc["datum_id"]] = (doc["resource"], doc)
        elif name == "datum_page":
            self._take_datum_page(doc)
        else:
            self.faults[f"malformed {name} documents were left out"] += 1

    def resource(self, uid: object) -> Mapping[str, Any] | None:
        """Return a resource by its uid; None where it did not come.

        Parameters
        ----------
        uid
            What a document says of it.
        """
        return self._resources.get(uid) if isinstance(uid, str) else None

    def resource_of(self, datum_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Return the resource and the datum of an identifier; None where one of them did not come.

        Parameters
        ----------
        datum_id
            What an event holds in place of the data.
        """
        uid, datum = self._data.get(datum_id, ("", {}))
        resource = self._resources.get(uid)
        return None if resource is None else (resource, datum)

    def _take_datum_page(self, page: Mapping[str, Any]) -> None:
        resource, names, columns = page.get("resource"), page.get("datum_id"), page.get("datum_kwargs") or {}
        if not isinstance(resource, str) or not isinstance(names, list) or not isinstance(columns, Mapping):
            self.faults["malformed datum_page documents were left out"] += 1
            return
        lists = {key: values for key, values in columns.items() if isinstance(values, list)}
        for i, name in enumerate(names):
            kwargs = {key: values[i] for key, values in lists.items() if i < len(values)}
            self.take("datum", {"datum_id": name, "resource": resource, "datum_kwargs": kwargs})
