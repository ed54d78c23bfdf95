"""Pictures of values, as PNG: the only matplotlib. Nothing is computed here that a reader would want to check."""
