"""Under which conditions figures were measured."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

PACKAGES = ("numpy", "scikit-learn", "bluesky", "tiled")


def machine() -> Mapping[str, Any]:
    """Return what timings depend on: processor, cores, Python and package versions."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }
