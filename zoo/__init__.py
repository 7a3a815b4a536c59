"""Floor 0: the registry of bases, the contracts on disk, and all that two floors share. Imports
nothing of ours."""
