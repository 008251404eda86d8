"""Video files as a player shows them: when, which way up, how wide; no JAX."""
