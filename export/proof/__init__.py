"""The trained run, and whether a file answers like it."""
