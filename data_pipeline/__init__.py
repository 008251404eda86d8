"""Files on disk to masked numpy batches of static shape."""
