"""Commands of the factory."""
