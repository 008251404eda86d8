"""Initial values shared by all layers (common notes, C8)."""

import flax.linen as nn

# Every linear and embedding weight, whatever its fan-in: no truncation.
WEIGHT = nn.initializers.normal(stddev=0.02)
