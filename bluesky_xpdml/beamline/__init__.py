"""A simulated XAS beamline of ophyd devices, physically modelled."""
