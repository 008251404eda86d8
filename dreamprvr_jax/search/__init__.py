"""Encode a corpus once, store it, find videos and moments in it."""
