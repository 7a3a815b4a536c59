"""The run folder and the bundle: what the packages meet in."""
