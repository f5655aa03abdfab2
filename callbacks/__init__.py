"""Bluesky callbacks: from document streams to published predictions."""
