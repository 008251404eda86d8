"""Search in an index: first pass, exact scores, moments."""
