"""Video files: which there are, and when their pictures are shown."""
