"""Decoding and answering."""
