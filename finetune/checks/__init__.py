"""Checks of the pictures before anything is trained."""
