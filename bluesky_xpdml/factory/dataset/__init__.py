"""Builds data sets of simulated spectra and structures."""
