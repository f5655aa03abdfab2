"""From predictions to Bluesky documents to Tiled."""
