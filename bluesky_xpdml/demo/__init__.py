"""Simulated beamlines and the demonstrations on them."""
