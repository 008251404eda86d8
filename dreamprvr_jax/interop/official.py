"""Names and layouts of the released DreamPRVR program's weights.

One table of rules, read in both directions: our tree of variables <-> the
released state dict. Every rule is linear, so it serves gradients, too.
Source: specification, section 12.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from dreamprvr_jax.errors import UserError

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
  """One tensor of theirs and where it lives in our tree.

  Attributes:
    official: Name in the released state dict.
    path: Path in our variables, starting with the collection.
    transpose: Whether our array is their transpose: linear weights are
      (out, in) there, and ours may split `out` into heads.
    block: Index along the leading axis of our array, which stacks blocks.
  """

  official: str
  path: Path
  transpose: bool = False
  block: int | None = None


class WeightsError(UserError):
  """A state dict that does not fit the model; names the tensors."""


def rules(num_blocks: int = 8, num_layers: int = 2) -> list[Rule]:
  """Returns one rule per tensor of the released model.

  Args:
    num_blocks: Parallel blocks of each encoder.
    num_layers: Layers of the diffusion register estimator.
  """
  found = [_weight('modular_vector_mapping', ('query', 'pooling', 'score'))]
  for branch, ours in (
    ('query', ('query', 'input')),
    ('clip', ('clip_input',)),
    ('frame', ('frame_input',)),
  ):
    found += _projection(f'{branch}_input_proj', (*ours, 'projection'))
    found += _norm(
      f'{branch}_pos_embed.LayerNorm', (*ours, 'position', 'input_norm')
    )
    found.append(
      Rule(
        f'{branch}_pos_embed.position_embeddings.weight',
        ('params', *ours, 'position', 'table'),
      )
    )
  found += _block('query_encoder', ('query', 'block'))
  found += _block('mean_clip_encoder', ('registers', 'context'))
  found += _block('video_qformer.cross_attention', ('registers', 'condition'))
  found.append(
    Rule('video_qformer.query_tokens', ('params', 'registers', 'queries'))
  )
  found += _variational_sampler()
  found += _estimator(num_layers)
  for branch in ('clip', 'frame'):
    found += _encoder(f'{branch}_encoder', num_blocks)
  return found


def sizes(state: Mapping[str, np.ndarray]) -> dict[str, int]:
  """Returns how many blocks and diffusion layers a state dict names."""
  blocks = {n.split('.')[2] for n in state if n.startswith(_BLOCKS)}
  layers = {n.split('.')[2] for n in state if n.startswith(_LAYERS)}
  return {'num_blocks': len(blocks), 'num_layers': len(layers)}


def from_official(
  state: Mapping[str, np.ndarray], template: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns our variables, filled from a released state dict.

  Args:
    state: Tensors by their released names; a `module.` prefix, which several
      GPUs leave behind, is taken off.
    template: Our variables ({'params': ..., 'constants': ...}) or their
      shapes.

  Returns:
    Nested dicts like `template`, float32 numpy arrays.

  Raises:
    WeightsError: If a tensor is missing, left over or of another shape; each
      tensor is used exactly once.
  """
  state = {name.removeprefix('module.'): value for name, value in state.items()}
  wanted: Any = flax.traverse_util.flatten_dict(template)
  table = rules(**sizes(state))
  missing = [r.official for r in table if r.official not in state]
  extra = sorted(set(state) - {r.official for r in table})
  if missing or extra:
    raise WeightsError(
      'the state dict is not that of a released DreamPRVR model: '
      f'missing {_listed(missing)}; not known {_listed(extra)}'
    )
  filled: dict[Path, np.ndarray] = {}
  for rule in table:
    if rule.path not in wanted:
      raise WeightsError(
        f'{rule.official} has no place in the configured model (looked for '
        f'{"/".join(rule.path)}); check the register options of the config'
      )
    shape = tuple(wanted[rule.path].shape)
    target = filled.setdefault(rule.path, np.empty(shape, np.float32))
    value = _to_ours(rule, state[rule.official], _slice_shape(rule, shape))
    if rule.block is None:
      target[...] = value
    else:
      target[rule.block] = value
  unfilled = sorted('/'.join(path) for path in set(wanted) - set(filled))
  if unfilled:
    raise WeightsError(
      f'the state dict leaves {_listed(unfilled)} of the model unfilled'
    )
  return flax.traverse_util.unflatten_dict(filled)


def to_official(
  variables: Mapping[str, Any], num_blocks: int = 8, num_layers: int = 2
) -> dict[str, np.ndarray]:
  """Returns our variables (or gradients) under the released names.

  Collections that `variables` lacks are left out.
  """
  ours = flax.traverse_util.flatten_dict(variables)
  out = {}
  for rule in rules(num_blocks, num_layers):
    if rule.path[0] not in variables:
      continue
    value = np.asarray(ours[rule.path])
    value = value if rule.block is None else value[rule.block]
    if rule.transpose:
      value = value.reshape(len(value), -1).T
    elif rule.path[-1] == 'bias':
      value = value.reshape(-1)
    elif rule.path[-1] == 'queries':
      value = value[None]
    out[rule.official] = value
  return out


_BLOCKS = 'clip_encoder.e_attns.'
_LAYERS = 'diffusion_mlp.layers.'


def _slice_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
  return shape if rule.block is None else shape[1:]


def _to_ours(
  rule: Rule, value: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
  if rule.transpose:
    expected = (int(np.prod(shape[1:])), shape[0])
  elif rule.path[-1] == 'queries':
    expected = (1, *shape)
  elif rule.path[-1] == 'bias':
    expected = (int(np.prod(shape)),)
  else:
    expected = shape
  if tuple(value.shape) != expected:
    raise WeightsError(
      f'{rule.official} has shape {tuple(value.shape)}; the configured model '
      f'needs {expected}'
    )
  value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    raise WeightsError(f'{rule.official} holds NaN or infinite values')
  return (value.T if rule.transpose else value).reshape(shape)


def _listed(names: list[str], limit: int = 8) -> str:
  if not names:
    return 'nothing'
  more = f' and {len(names) - limit} more' if len(names) > limit else ''
  return ', '.join(names[:limit]) + more


def _weight(official: str, ours: Path, block: int | None = None) -> Rule:
  return Rule(f'{official}.weight', ('params', *ours, 'kernel'), True, block)


def _linear(official: str, ours: Path, block: int | None = None) -> list[Rule]:
  return [
    _weight(official, ours, block),
    Rule(f'{official}.bias', ('params', *ours, 'bias'), block=block),
  ]


def _norm(official: str, ours: Path, block: int | None = None) -> list[Rule]:
  return [
    Rule(f'{official}.weight', ('params', *ours, 'scale'), block=block),
    Rule(f'{official}.bias', ('params', *ours, 'bias'), block=block),
  ]


def _projection(official: str, ours: Path) -> list[Rule]:
  return [
    *_norm(f'{official}.LayerNorm', (*ours, 'input_norm')),
    *_linear(f'{official}.net.1', (*ours, 'linear')),
  ]


def _block(official: str, ours: Path, block: int | None = None) -> list[Rule]:
  found = []
  for name in ('query', 'key', 'value'):
    found += _linear(
      f'{official}.self.{name}', (*ours, 'attention', name), block
    )
  for i in ('1', '2'):
    inner = (*ours, 'feed_forward')
    found += _linear(
      f'{official}.output.layer{i}', (*inner, f'linear{i}'), block
    )
    found += _norm(f'{official}.norm{i}', (*inner, f'norm{i}'), block)
  return found


def _encoder(name: str, num_blocks: int) -> list[Rule]:
  found = _projection(
    f'{name}.noise_input_layer', (name, 'register_projection')
  )
  for i in range(num_blocks):
    found += _block(f'{name}.e_attns.{i}', (name, 'parallel', 'block'), i)
  merger = (name, 'merger')
  found += _block(f'{name}.ca', (*merger, 'readout'))
  found += _linear(f'{name}.layer1', (*merger, 'hidden'))
  found += _linear(f'{name}.layer2', (*merger, 'logits'))
  return found


def _variational_sampler() -> Iterator[Rule]:
  theirs = 'video_probabilistic_variational_sampler'
  ours = ('registers', 'sampler')
  for suffix, direction in (('', 'forward'), ('_reverse', 'backward')):
    recurrent = ('params', *ours, 'pooling', direction)
    for short, full in (('ih', 'input'), ('hh', 'hidden')):
      gru = f'{theirs}.gpo.gru'
      yield Rule(
        f'{gru}.weight_{short}_l0{suffix}',
        (*recurrent, f'kernel_{full}'),
        transpose=True,
      )
      yield Rule(f'{gru}.bias_{short}_l0{suffix}', (*recurrent, f'bias_{full}'))
  yield _weight(f'{theirs}.gpo.linear', (*ours, 'pooling', 'score'))
  nets = {'pie_net_video': 'mean', 'uncertain_net_video': 'logvar'}
  for net, kind in nets.items():
    for theirs_name, ours_name in (('w_1', 'hidden'), ('w_2', 'score')):
      yield _weight(
        f'{theirs}.{net}.attention.{theirs_name}',
        (*ours, f'{kind}_attention', ours_name),
      )
  yield from _linear(f'{theirs}.pie_net_video.fc', (*ours, 'mean_gate'))
  yield from _norm(f'{theirs}.pie_net_video.layer_norm', (*ours, 'mean_norm'))
  uncertain = f'{theirs}.uncertain_net_video'
  yield from _linear(f'{uncertain}.fc', (*ours, 'logvar_attended'))
  yield from _linear(f'{uncertain}.fc2', (*ours, 'logvar_pooled'))


def _estimator(num_layers: int) -> Iterator[Rule]:
  ours = ('registers', 'estimator')
  time = 'diffusion_mlp.time_embedding.timembedding'
  yield Rule(f'{time}.0.weight', ('constants', *ours, 'time_table'))
  yield from _linear(f'{time}.1', (*ours, 'time_hidden'))
  yield from _linear(f'{time}.3', (*ours, 'time_out'))
  yield from _norm('diffusion_mlp.cond_embedding.0', (*ours, 'condition_norm'))
  yield from _linear('diffusion_mlp.cond_embedding.2', (*ours, 'condition_in'))
  yield from _linear('diffusion_mlp.short_cut', (*ours, 'readout'))
  for i in range(num_layers):
    layer = f'diffusion_mlp.layers.{i}'
    # `blcok` is how the released program spells it.
    yield from _norm(f'{layer}.blcok_in.0', (*ours, f'norm_in_{i}'))
    yield from _linear(f'{layer}.blcok_in.2', (*ours, f'linear_in_{i}'))
    yield from _norm(f'{layer}.blcok_out.0', (*ours, f'norm_out_{i}'))
    yield from _linear(f'{layer}.blcok_out.3', (*ours, f'linear_out_{i}'))
    yield from _linear(f'{layer}.short_cut', (*ours, f'shortcut_{i}'))
    yield from _linear(f'{layer}.temb_proj.1', (*ours, f'time_map_{i}'))
    yield from _linear(f'{layer}.cond_proj.1', (*ours, f'condition_map_{i}'))
