"""What `main.py --mode=...` does: the layer that joins data and models."""
