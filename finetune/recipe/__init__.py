"""What a run is asked for, and the facts that complete it: one recipe, each value with its
reason."""
