"""Initial values shared by all layers; docs/method.md, "Initial values"."""

import flax.linen as nn

# Every linear and embedding weight, whatever its fan-in: no truncation.
WEIGHT = nn.initializers.normal(stddev=0.02)
