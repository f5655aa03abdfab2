"""From a data set to a bundle."""
