"""From Bluesky documents to records: the only room that knows data keys, streams and start-document keys."""

from bluesky_xpdml.documents.scan import absorption_scan

__all__ = ["absorption_scan"]
