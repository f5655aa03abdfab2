"""Data sets, training and benchmarks: makes what the other packages use."""
