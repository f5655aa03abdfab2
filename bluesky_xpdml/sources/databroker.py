"""Runs of a databroker catalog: what `databroker.Broker.named` opens, which is a profile of Tiled.

Documents are passed as they are stored: nothing is filled by databroker's handlers, files that documents name
are opened under the `roots` of the settings alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bluesky_xpdml.documents.stored import run_documents
from bluesky_xpdml.errors import MissingDataError, SourceError, needs_extra


@contextmanager
def open_databroker(name: str) -> Iterator[Any]:
    """Open a catalog of databroker by its name, for the length of a `with` block.

    Parameters
    ----------
    name
        Of a Tiled profile, which databroker 2 uses in place of its own configuration. If the profile's tree
        holds a container `raw`, that is taken, as databroker does.

    Yields
    ------
    container
        Tiled container of the runs.

    Raises
    ------
    MissingExtraError
        If databroker is not installed.
    SourceError
        If there is no catalog of that name, or its server does not answer.

    Examples
    --------
    >>> with open_databroker("nowhere") as catalog:
    ...     pass
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.SourceError: expected a databroker catalog 'nowhere', found none; known are ...
    """
    with needs_extra("databroker"):
        from databroker import Broker
    known = _known()
    if name not in known:
        raise SourceError(
            f"expected a databroker catalog {name!r}, found none; known are {', '.join(known) or 'none'}: "
            "choose one of these, or write a Tiled profile for it (tiled profile list shows where)"
        )
    catalog = _opened(Broker, name)
    try:
        yield catalog
    finally:
        catalog.context.http_client.close()


def databroker_documents(catalog: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a run.

    Parameters
    ----------
    catalog
        As `open_databroker` gives it.
    key
        What databroker users put into brackets: a uid, the first five or more characters of one, a scan id
        (the newest run that has it), or `-1` for the newest run, `-2` for the one before.

    Raises
    ------
    MissingDataError
        If there is no such run, or more than one.
    DocumentError
        If the server cannot give its documents.
    """
    run = _found(catalog, key)
    yield from run_documents(run, str(run.metadata["start"]["uid"]))


def _known() -> list[str]:
    """Return the names of all catalogs."""
    from tiled.profiles import list_profiles

    return sorted(list_profiles())


def _opened(broker: Any, name: str) -> Any:
    """Return the container of the runs of a catalog."""
    import httpx
    from bluesky_tiled_plugins.clients.catalog_of_bluesky_runs import CatalogOfBlueskyRuns
    from tiled.client.utils import ClientError
    from tiled.profiles import ProfileError

    try:
        catalog = broker.named(name).v2
    except (httpx.HTTPError, ClientError, ProfileError, LookupError, OSError, RuntimeError) as error:
        raise SourceError(
            f"expected the server of the databroker catalog {name!r} to answer, found "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}; check the address and the key in "
            "the Tiled profile"
        ) from None
    if not isinstance(catalog, CatalogOfBlueskyRuns):
        raise SourceError(
            f"expected a container of the spec CatalogOfBlueskyRuns in the Tiled profile {name!r}, found one "
            "without: give it the spec, or use xpdml replay --tiled with uids"
        )
    return catalog


def _found(catalog: Any, key: str) -> Any:
    """Return the run that a key means: a number is a scan id or, if negative, counts from the newest run."""
    is_number = key.removeprefix("-").isdecimal()
    reasons = []
    for each in (int(key), key) if is_number else (key,):
        try:
            return catalog[each]
        except (LookupError, ValueError) as error:
            reasons.append(" ".join(map(str, error.args)))
    raise MissingDataError(
        f"expected one run {key!r} in the databroker catalog, found none or several ({reasons[0]}): give its "
        "uid, five or more characters of it, its scan id, or -1 for the newest"
    )
