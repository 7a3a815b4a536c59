"""The catalogue of bases, and names of the user's own."""
