"""Augmentation: of one picture on the host, of a batch on the device."""
