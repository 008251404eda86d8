"""Importers of annotations and features into the official layout."""
