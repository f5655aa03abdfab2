"""What is measured of this package, each a table."""
