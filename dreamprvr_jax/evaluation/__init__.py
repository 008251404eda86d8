"""Text-to-video retrieval: encoding, ranking and metrics of a split."""
