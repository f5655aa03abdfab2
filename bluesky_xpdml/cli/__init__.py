"""The command line, `xpdml`: the only room that prints."""
