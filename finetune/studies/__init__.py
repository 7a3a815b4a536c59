"""Several runs or settings, side by side."""
