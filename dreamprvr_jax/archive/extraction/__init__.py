"""Videos and captions become features."""
