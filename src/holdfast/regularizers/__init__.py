"""Penalties on features and weights: formulas in ``functional``, one method a file."""
