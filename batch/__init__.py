"""Extraction and indexing on many machines, by an engine for batch jobs."""
