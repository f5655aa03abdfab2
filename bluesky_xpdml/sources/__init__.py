"""Measurements from elsewhere than a RunEngine: data files, stored runs, and 0MQ."""
