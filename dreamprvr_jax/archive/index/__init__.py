"""Indices: the stored tokens of videos, written, checked and read."""
