"""Which pictures `--data` means: their paths, labels and splits; none is opened here."""
