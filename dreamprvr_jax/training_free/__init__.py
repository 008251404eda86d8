"""Retrievers without training: their mathematics, in float64 NumPy."""
