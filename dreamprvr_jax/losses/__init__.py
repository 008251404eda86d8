"""Pure loss functions; per-example values where that has a meaning."""
