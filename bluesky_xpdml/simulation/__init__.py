"""Simulated spectra and structures, with their labels."""
