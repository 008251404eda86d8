"""Extraction and indexing on many machines."""
