"""Which raw runs have an answer that counts."""

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from typing import Any

from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.publish.published import as_list, as_mapping
from bluesky_xpdml.publish.requests import Requests
from bluesky_xpdml.vocabulary import ReasonCode

_MADE_UP_FOR = {ReasonCode.NO_STOP, ReasonCode.QUEUE_FULL, ReasonCode.PROCESS_ENDED}
"""Failures after which a whole run in the catalog is analysed again."""


def answered_runs(connect: Callable[[], Any], uids: Collection[str]) -> set[str]:
    """Return those of some raw runs that have an answer which counts; of at most a page of them.

    One that is not whole does not: who wrote it may be dead. Nor does a failure that says no more than that a
    run was not received whole. The container of the predictions is opened by `connect`; one that does not
    exist holds no answers.
    """
    from tiled.queries import In

    if not uids:
        return set()
    try:
        container = connect()
    except ServerAwayError:
        raise
    except PublishError:
        # Nothing was ever published there.
        return set()
    with closing(container.context.http_client):
        pages = Requests(container).pages([In("start.raw_uid", list(uids))])
        whole = [run.start for page in pages for run in page if run.complete]
    return {str(start.get("raw_uid")) for start in whole if not _is_made_up_for(start)}


def _is_made_up_for(start: Mapping[str, Any]) -> bool:
    return any(code in _MADE_UP_FOR for code in as_list(as_mapping(start.get("quality")).get("codes")))
