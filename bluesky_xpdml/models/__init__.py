"""Bundles, forests and what they answer."""
