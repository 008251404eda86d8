"""One tensor of a released program and its place in our variables."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from dreamprvr_jax.errors import UserError

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
  """One released tensor and its place in our variables.

  Attributes:
    official: Name in the released state dict.
    path: Path in our variables, starting with the collection.
    transpose: Whether our array is the transpose: released linear weights are
      (out, in), and ours may split `out` into heads.
    block: Index along the leading axis of our array, which stacks blocks.
    leading: Leading axes of length 1 of the released tensor.
  """

  official: str
  path: Path
  transpose: bool = False
  block: int | None = None
  leading: int = 0


class WeightsError(UserError):
  """A state dict that does not fit the model; names the tensors."""


def to_ours(
  rule: Rule, value: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
  """Returns a released tensor as our array of `shape`, float32.

  Raises:
    WeightsError: If it has another shape, or NaN or infinite values.
  """
  expected = _their_shape(rule, shape)
  if tuple(value.shape) != expected:
    raise WeightsError(
      f'{rule.official} has shape {tuple(value.shape)}; the configured model '
      f'needs {expected}'
    )
  value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    raise WeightsError(f'{rule.official} has NaN or infinite values')
  return (value.T if rule.transpose else value).reshape(shape)


def to_theirs(rule: Rule, value: np.ndarray) -> np.ndarray:
  """Returns our array in the released layout; works for gradients, too."""
  shape = _their_shape(rule, value.shape)
  if rule.transpose:
    value = value.reshape(len(value), -1).T
  return value.reshape(shape)


def _their_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
  if rule.transpose:
    return (int(np.prod(shape[1:])), shape[0])
  if rule.path[-1] == 'bias' and shape:
    shape = (int(np.prod(shape)),)
  return (1,) * rule.leading + tuple(shape)


def weight(official: str, ours: Path, block: int | None = None) -> Rule:
  """Returns the rule of a linear map without bias."""
  return Rule(f'{official}.weight', ('params', *ours, 'kernel'), True, block)


def linear(official: str, ours: Path, block: int | None = None) -> list[Rule]:
  """Returns the rules of a linear map."""
  return [
    weight(official, ours, block),
    Rule(f'{official}.bias', ('params', *ours, 'bias'), block=block),
  ]


def norm(official: str, ours: Path, block: int | None = None) -> list[Rule]:
  """Returns the rules of a layer norm."""
  return [
    Rule(f'{official}.weight', ('params', *ours, 'scale'), block=block),
    Rule(f'{official}.bias', ('params', *ours, 'bias'), block=block),
  ]


def projection(official: str, ours: Path) -> list[Rule]:
  """Returns the rules of an input projection."""
  return [
    *norm(f'{official}.LayerNorm', (*ours, 'input_norm')),
    *linear(f'{official}.net.1', (*ours, 'linear')),
  ]


def block(official: str, ours: Path, block: int | None = None) -> list[Rule]:
  """Returns the rules of a block B, or a cross attention."""
  found = []
  for name in ('query', 'key', 'value'):
    found += linear(
      f'{official}.self.{name}', (*ours, 'attention', name), block
    )
  return found + feed_forward(official, ours, block)


def feed_forward(
  official: str, ours: Path, block: int | None = None
) -> list[Rule]:
  """Returns the rules of a block B behind its attention."""
  found = []
  for i in ('1', '2'):
    inner = (*ours, 'feed_forward')
    found += linear(
      f'{official}.output.layer{i}', (*inner, f'linear{i}'), block
    )
    found += norm(f'{official}.norm{i}', (*inner, f'norm{i}'), block)
  return found


def plain_block(
  official: str, ours: Path, block: int | None = None
) -> list[Rule]:
  """Returns the rules of a block A."""
  found = []
  for name in ('query', 'key', 'value'):
    found += linear(
      f'{official}.self.{name}', (*ours, 'attention', name), block
    )
  found += linear(f'{official}.output.dense', (*ours, 'output'), block)
  return found + norm(
    f'{official}.output.LayerNorm', (*ours, 'output_norm'), block
  )


def inputs() -> list[Rule]:
  """Returns the rules of projections, positions and the queries' pooling."""
  found = [weight('modular_vector_mapping', ('query', 'pooling', 'score'))]
  for branch, ours in (
    ('query', ('query', 'input')),
    ('clip', ('clip_input',)),
    ('frame', ('frame_input',)),
  ):
    found += projection(f'{branch}_input_proj', (*ours, 'projection'))
    found += norm(
      f'{branch}_pos_embed.LayerNorm', (*ours, 'position', 'input_norm')
    )
    found.append(
      Rule(
        f'{branch}_pos_embed.position_embeddings.weight',
        ('params', *ours, 'position', 'table'),
      )
    )
  return found


def consolidation(
  official: str, ours: str, blocks: Mapping[str, int]
) -> list[Rule]:
  """Returns the rules of a consolidation layer.

  Args:
    official: The released name of the layer.
    ours: Our name of it.
    blocks: Number of parallel blocks by the released prefix of their names,
      such as 'e_attns.'.
  """
  found = []
  for prefix, count in blocks.items():
    for i in range(count):
      theirs = f'{official}.{prefix}{i}'
      if prefix.startswith('h_'):
        found += lorentz_block(theirs, (ours, 'lorentz_parallel', 'block'), i)
      else:
        found += block(theirs, (ours, 'parallel', 'block'), i)
  merger = (ours, 'merger')
  found += block(f'{official}.ca', (*merger, 'readout'))
  found += linear(f'{official}.layer1', (*merger, 'hidden'))
  return found + linear(f'{official}.layer2', (*merger, 'logits'))


def lorentz_block(official: str, ours: Path, block: int) -> list[Rule]:
  """Returns the rules of a Lorentz block."""
  here = ('params', *ours)
  theirs = f'{official}.self'
  found = [Rule(f'{theirs}.scale_alpha', (*here, 'exponent'), block=block)]
  for name in ('input', 'output'):
    ours_name = f'{name}_projection'
    found += norm(
      f'{theirs}.{name}_proj.LayerNorm', (*ours, ours_name, 'input_norm'), block
    )
    found += linear(
      f'{theirs}.{name}_proj.net.1', (*ours, ours_name, 'linear'), block
    )
  theirs = f'{theirs}.lorentz_multiattention'
  here = (*here, 'attention')
  for name in ('scale', 'bias'):
    found.append(Rule(f'{theirs}.{name}', (*here, name), block=block))
  for plural, name in (
    ('keys', 'key'),
    ('values', 'value'),
    ('query', 'query'),
  ):
    found.append(
      weight(
        f'{theirs}.linear_{plural}.weight', (*ours, 'attention', name), block
      )
    )
    found.append(
      Rule(
        f'{theirs}.linear_{plural}.scale', (*here, name, 'scale'), block=block
      )
    )
  return found + feed_forward(official, ours, block)
