"""Which answers belong to one sample, and their joint answer."""
