"""Optimiser, train step and training loop."""
