"""Sources that are written as class folders once, into the user's cache."""
