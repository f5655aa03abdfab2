"""Commands of the factory: `cli/app.py` finds them through the entry-point group `bluesky_xpdml.commands`."""

from importlib.util import find_spec

from bluesky_xpdml.errors import TrainingError

NEEDED = ("joblib", "pymatgen", "sklearn")
"""Modules of the extra `train`."""


def require_train_extra() -> None:
    """Raise `TrainingError`, with the command that installs it, if a part of the extra `train` is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        msg = f"this command needs {', '.join(missing)}, found none: pip install 'bluesky-xpdml[train]'"
        raise TrainingError(msg)
