"""Passes without training, and what is fitted and computed from them."""
