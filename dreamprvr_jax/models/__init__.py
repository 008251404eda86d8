"""Retrieval models and their registry."""
