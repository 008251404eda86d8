"""Configs: one file a dataset; the string after a colon picks the model."""
