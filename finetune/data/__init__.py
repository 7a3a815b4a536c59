"""Pictures of a folder: found, checked, split, read in batches."""
