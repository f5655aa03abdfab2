"""From Bluesky documents to records: the only room that knows data keys, streams and start-document keys."""
