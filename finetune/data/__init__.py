"""Pictures of a source: read, checked, split, given in batches."""
