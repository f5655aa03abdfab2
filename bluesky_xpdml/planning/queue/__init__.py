"""Planning through the queue server."""
