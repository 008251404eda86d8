"""Re-ranking of a retriever's best candidates, DiffusionRet's way."""
