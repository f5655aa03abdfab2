"""From records to records: counts become normalised spectra. Pure NumPy and SciPy."""
