"""One file for each kind of bundle."""
