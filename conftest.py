"""What keeps the tests cheap: work that libraries repeat is done once per process. No test depends on it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

# Before NumPy is imported, and for the processes that tests start too: on small matrices the threads of BLAS
# wait for each other in busy loops, which cost five times the CPU time of the computation.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from bluesky import utils as bluesky_utils

from bluesky_xpdml.models import bundle


@pytest.fixture(scope="session", autouse=True)
def bundles_unpacked_once() -> Iterator[None]:
    """Unpack the same bytes once per process: hundreds of tests open the shipped bundles.

    Every opening still reads the files and checks their hashes. The arrays are shared, so they are read-only.
    """

    @lru_cache(maxsize=64)
    def unpack_once(content: bytes) -> Any:
        forests, tables = unpack(content)
        parts = [getattr(forest, field.name) for forest in forests.values() for field in fields(forest)]
        for array in (*parts, *tables.values()):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        return forests, tables

    unpack = bundle._unpack  # noqa: SLF001 - what costs is inside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "_unpack", lambda content: tuple(map(dict, unpack_once(content))))
        yield


@pytest.fixture(scope="session", autouse=True)
def plans_without_stacks() -> Iterator[None]:
    """Bluesky formats the stack for each step of a plan, for a warning: nearly half the CPU time of a scan.

    The warning, of a plan that was never iterated, still comes, without the stack.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bluesky_utils, "traceback", SimpleNamespace(format_stack=list), raising=False)
        yield


@pytest.fixture(scope="session")
def requests_without_inspection() -> Iterator[None]:
    """Keep what FastAPI finds out about the dependencies of a request: a tenth of its CPU time.

    It inspects them again on every request where an application overrides one of them, as Tiled does.
    """
    from fastapi.dependencies import utils as dependencies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependencies, "get_dependant", once_per_arguments(dependencies.get_dependant))
        yield


def once_per_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its results cached; its keywords may be lists."""
    results: dict[tuple[Any, ...], Any] = {}

    def cached(**arguments: Any) -> Any:
        plain = ((name, tuple(x) if isinstance(x, list) else x) for name, x in arguments.items())
        key = tuple(sorted(plain, key=lambda item: item[0]))
        if key not in results:
            results[key] = function(**arguments)
        return results[key]

    return cached
