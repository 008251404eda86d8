"""The videos of an index in a vector database, Qdrant."""
