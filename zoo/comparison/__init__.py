"""Runs side by side: python -m zoo compare."""
