"""Trained retrievers by their folder."""
