"""The matrix products of a training step, each timed alone.

Used by `benchmarks/train_step.py --products` and `--layouts`.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import harness
import jax
import numpy as np


def layouts(product: harness.Product) -> list[harness.Product]:
  """Returns the product as it is and as one of matrices in a stack, with the
  axes of each matrix, of both factors and of the result, in either order."""
  (left, _), (left_batch, _) = dict(product.settings)['dimension_numbers']
  size = lambda side, axes: int(np.prod([side.shape[axis] for axis in axes]))
  stack, depth = size(product.lhs, left_batch), size(product.lhs, left)
  rows, columns = (
    side.size // (stack * depth) for side in (product.lhs, product.rhs)
  )
  # One matrix is no stack of one: that is another program.
  lead = (stack,) if stack > 1 else ()
  batch = tuple(range(len(lead)))
  found = [product]
  # With the factors exchanged, the axes of the result are, too.
  for exchanged, *depth_lasts in itertools.product((False, True), repeat=3):
    factors = list(
      zip((product.lhs, product.rhs), (rows, columns), depth_lasts, strict=True)
    )
    if exchanged:
      factors.reverse()
    sides, bound = [], []
    for side, others, depth_last in factors:
      matrix = (others, depth) if depth_last else (depth, others)
      sides.append(jax.ShapeDtypeStruct((*lead, *matrix), side.dtype))
      bound.append((len(lead) + depth_last,))
    numbers = (tuple(bound), (batch, batch))
    settings = dict(product.settings) | {'dimension_numbers': numbers}
    found.append(harness.Product(*sides, tuple(settings.items())))
  return found


@dataclasses.dataclass(frozen=True)
class Timed:
  """A product of a step, how often a step has it, its seconds alone as the step
  asks for it and in its fastest layout, and the FLOP/s of a large product just
  before: the speed of a machine may change while others are timed."""

  product: harness.Product
  times: int
  seconds: float
  fastest: float
  peak: float

  def share(self, seconds: float) -> float:
    """Returns the share of the peak of a time of the product."""
    return self.product.flops / seconds / self.peak


def _seconds(product: harness.Product) -> float:
  sides = product.lhs, product.rhs
  keys = jax.random.split(jax.random.key(0))
  arrays = [
    jax.random.normal(key, side.shape, side.dtype)
    for key, side in zip(keys, sides, strict=True)
  ]
  alone = jax.jit(product)
  _, seconds = harness.timed(lambda: alone(*arrays), 3)
  return min(seconds)


def timed(
  products: dict[harness.Product, int], *, every_layout: bool
) -> list[Timed]:
  """Times each product alone.

  Args:
    products: The products and how often a step has each.
    every_layout: Whether to time their other layouts, too.
  """
  found = []
  for product, times in products.items():
    asked, *others = layouts(product)
    peak = harness.matmul_peak(product.lhs.dtype.name, [2048])
    seconds = _seconds(asked)
    fastest = min([seconds, *map(_seconds, others if every_layout else ())])
    found.append(Timed(product, times, seconds, fastest, peak))
  return found


def summary(found: Sequence[Timed]) -> dict[str, Any]:
  """Returns what the products of a step take one by one, and those that take
  longest. Shares are of the peaks beside the products."""
  total = sum(row.times * row.seconds for row in found)
  fastest = sum(row.times * row.fastest for row in found)
  traffic = sum(row.times * _bytes(row.product) for row in found)
  moved = traffic / harness.bandwidth()
  # What they would take at the peak.
  ideal = sum(row.times * row.product.flops / row.peak for row in found)
  slowest = sorted(found, key=lambda row: -row.times * row.seconds)[:10]
  return {
    'products_seconds': round(total, 3),
    'products_share_of_peak': round(ideal / total, 3),
    'products_traffic_gib': round(traffic / 2**30, 2),
    'traffic_seconds': round(moved, 3),
    'with_traffic_share_of_peak': round(ideal / (total + moved), 3),
    'fastest_layouts_seconds': round(fastest, 3),
    'fastest_layouts_share_of_peak': round(ideal / fastest, 3),
    'slowest_products': [
      {
        'lhs': row.product.lhs.shape,
        'rhs': row.product.rhs.shape,
        'dimensions': dict(row.product.settings)['dimension_numbers'],
        'times': row.times,
        'seconds': round(row.times * row.seconds, 4),
        'share_of_peak': round(row.share(row.seconds), 3),
        'fastest_share_of_peak': round(row.share(row.fastest), 3),
      }
      for row in slowest
    ],
  }


def _bytes(product: harness.Product) -> int:
  sides = product.lhs, product.rhs
  arrays = (*sides, jax.eval_shape(product, *sides))
  return sum(array.size * array.dtype.itemsize for array in arrays)
