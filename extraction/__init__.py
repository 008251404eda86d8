"""Videos and sentences become features; no JAX."""
