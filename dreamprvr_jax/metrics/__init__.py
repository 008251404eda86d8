"""Retrieval metrics on ranks, in numpy."""
