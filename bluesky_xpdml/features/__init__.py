"""From reduced records to the inputs of a model, on the model's own grid; nothing is extrapolated."""
