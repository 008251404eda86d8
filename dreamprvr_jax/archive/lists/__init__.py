"""A first pass by FAISS: inverted lists over the tokens of an index."""
