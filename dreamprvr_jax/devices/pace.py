"""How much work a device gets at a time."""

import dataclasses

from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class Pace:
  """Sizes that change memory and speed, not results.

  Attributes:
    products: Numbers in the largest (queries, videos, tokens) product.
    work: Multiplications in a call that ranks several blocks of queries.
    encode_at_once: Whether one call encodes a whole split in device memory
      rather than a batch.
  """

  products: int
  work: float
  encode_at_once: bool

  @classmethod
  def of(cls, mesh: Mesh) -> 'Pace':
    """Returns the sizes that suit the mesh's devices."""
    if mesh.devices.flat[0].platform == 'cpu':
      # Products that fit its caches; calls of a second, to show progress.
      return cls(products=2**22, work=1e10, encode_at_once=False)
    # Long calls, so that launching and waiting for the host cost little.
    return cls(products=2**25, work=5e14, encode_at_once=True)
