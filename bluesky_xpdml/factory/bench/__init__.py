"""Benchmarks of this package; each returns one table."""
