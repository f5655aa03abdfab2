"""One measurement to its predictions: one set of functions for final, live, replayed and file data."""
