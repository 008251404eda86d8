"""Parts that the retrieval models are built from."""
