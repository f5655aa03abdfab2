"""The command line, `xpdml`: the only room that prints."""

from bluesky_xpdml.cli.app import main

__all__ = ["main"]
