"""Where measurements come from besides the RunEngine: data files and stored runs."""
