"""Structure descriptors from XANES and PDF, in real time, inside Bluesky."""

from importlib.metadata import version

__version__ = version("bluesky-xpdml")

__all__ = ["__version__"]
