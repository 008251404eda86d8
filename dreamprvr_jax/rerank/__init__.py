"""Re-ranking of a retriever's best candidates, as DiffusionRet does it."""
