"""Which losses a model is trained with, and their weights."""
