"""Encode a corpus, rank it, report."""
