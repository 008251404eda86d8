"""The state dicts of the released programs, tensor by tensor.

The names are those of the released checkpoints.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from dreamprvr_jax.interop.rules import (
  Path,
  Rule,
  block,
  consolidation,
  inputs,
  linear,
  norm,
  plain_block,
  projection,
  weight,
)

# Prefix of numbered names -> how many there are.
Counts = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a released program names its tensors.

  Attributes:
    rules: From counts to one rule per tensor.
    counted: Prefix of numbered names -> path of one of our arrays. The leading
      axis of the array counts the blocks; if the path has a {}, the arrays of
      that name are counted.
    mark: Start of a tensor's name that no other program has.
    ignored: Parts of the names of tensors that our models do not use.
  """

  rules: Callable[[Counts], list[Rule]]
  counted: Mapping[str, Path]
  mark: str
  ignored: tuple[str, ...] = ()


def _stacked(kind: str = 'parallel', layer: str = 'clip_encoder') -> Path:
  return ('params', layer, kind, 'block', 'attention', 'query', 'kernel')


def _dreamprvr(counts: Counts) -> list[Rule]:
  found = inputs()
  found += block('query_encoder', ('query', 'block'))
  found += block('mean_clip_encoder', ('registers', 'context'))
  found += block('video_qformer.cross_attention', ('registers', 'condition'))
  found.append(
    Rule(
      'video_qformer.query_tokens',
      ('params', 'registers', 'queries'),
      leading=1,
    )
  )
  found += _variational_sampler()
  found += _estimator(counts['diffusion_mlp.layers.'])
  for branch in ('clip', 'frame'):
    name = f'{branch}_encoder'
    found += projection(
      f'{name}.noise_input_layer', (name, 'register_projection')
    )
    blocks = {'e_attns.': counts['clip_encoder.e_attns.']}
    found += consolidation(name, name, blocks)
  return found


def _consolidated(counts: Counts) -> list[Rule]:
  blocks = {
    prefix.removeprefix('clip_encoder.'): count
    for prefix, count in counts.items()
  }
  found = [*inputs(), *block('query_encoder', ('query', 'block'))]
  found += consolidation('clip_encoder', 'clip_encoder', blocks)
  return found + consolidation('frame_encoder_1', 'frame_encoder', blocks)


def _gmmformer_v2(counts: Counts) -> list[Rule]:
  token = Rule('weight_token', ('params', 'token'), leading=2)
  return [*_consolidated(counts), token]


def _msc(counts: Counts) -> list[Rule]:
  return [*_gmmformer_v2(counts), *linear('vproj_clip', ('aligner',))]


def _hlformer(counts: Counts) -> list[Rule]:
  cone = ('params', 'cone')
  found = _consolidated(counts)
  for theirs, ours in (
    ('curv', 'log_curvature'),
    ('textual_alpha', 'text_exponent'),
    ('video_alpha', 'video_exponent'),
  ):
    found.append(Rule(theirs, (*cone, ours)))
  for i, branch in ((2, 'frame'), (3, 'clip')):
    found.append(
      weight(
        f'modular_vector_mapping_{i}', ('cone', f'{branch}_pooling', 'score')
      )
    )
  return found


def _words(counts: Counts) -> list[Rule]:
  found = _consolidated(counts)
  found += projection('frame_branch_query_proj', ('query', 'frame_projection'))
  found += block('frame_branch_query_encoder', ('query', 'frame_block'))
  for i, name in ((0, 'hidden'), (2, 'score')):
    found += linear(f'text_weight_fc.{i}', ('word_weights', name))
  return found


def _ral(counts: Counts) -> list[Rule]:
  token = Rule('weight_token', ('params', 'token'), leading=2)
  found = [*_words(counts), token]
  for side in ('text', 'video'):
    found += _gaussian('', side, (f'{side}_head',))
  return found


def _gmmformer(counts: Counts) -> list[Rule]:
  found = [*inputs(), *plain_block('query_encoder', ('query', 'block'))]
  for theirs, ours in (
    ('clip_encoder', 'clip_encoder'),
    ('clip_encoder_2', 'clip_encoder_2'),
    ('frame_encoder_1', 'frame_encoder'),
    ('frame_encoder_2', 'frame_encoder_2'),
  ):
    for i in range(counts['clip_encoder.attn']):
      found += plain_block(f'{theirs}.attn{i}', (ours, 'parallel', 'block'), i)
  return [
    *found,
    weight('modular_vector_mapping_2', ('frame_pooling', 'score')),
  ]


def _ms_sl(counts: Counts) -> list[Rule]:
  del counts
  found = [*inputs(), *plain_block('query_encoder', ('query', 'block'))]
  for branch in ('clip', 'frame'):
    found += plain_block(f'{branch}_encoder', (f'{branch}_encoder',))
  for i, name in enumerate(('key', 'value')):
    found.append(weight(f'mapping_linear.{i}', (f'frame_{name}',)))
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
  yield weight(f'{theirs}.gpo.linear', (*ours, 'pooling', 'score'))
  yield from _gaussian(f'{theirs}.', 'video', ours)


def _gaussian(prefix: str, side: str, ours: Path) -> Iterator[Rule]:
  mean, spread = f'{prefix}pie_net_{side}', f'{prefix}uncertain_net_{side}'
  for net, kind in ((mean, 'mean'), (spread, 'logvar')):
    for theirs_name, ours_name in (('w_1', 'hidden'), ('w_2', 'score')):
      yield weight(
        f'{net}.attention.{theirs_name}',
        (*ours, f'{kind}_attention', ours_name),
      )
  yield from linear(f'{mean}.fc', (*ours, 'mean_gate'))
  yield from norm(f'{mean}.layer_norm', (*ours, 'mean_norm'))
  yield from linear(f'{spread}.fc', (*ours, 'logvar_attended'))
  yield from linear(f'{spread}.fc2', (*ours, 'logvar_pooled'))


def _estimator(num_layers: int) -> Iterator[Rule]:
  ours = ('registers', 'estimator')
  time = 'diffusion_mlp.time_embedding.timembedding'
  yield Rule(f'{time}.0.weight', ('constants', *ours, 'time_table'))
  yield from linear(f'{time}.1', (*ours, 'time_hidden'))
  yield from linear(f'{time}.3', (*ours, 'time_out'))
  yield from norm('diffusion_mlp.cond_embedding.0', (*ours, 'condition_norm'))
  yield from linear('diffusion_mlp.cond_embedding.2', (*ours, 'condition_in'))
  yield from linear('diffusion_mlp.short_cut', (*ours, 'readout'))
  for i in range(num_layers):
    layer = f'diffusion_mlp.layers.{i}'
    # The released program spells it `blcok`.
    yield from norm(f'{layer}.blcok_in.0', (*ours, f'norm_in_{i}'))
    yield from linear(f'{layer}.blcok_in.2', (*ours, f'linear_in_{i}'))
    yield from norm(f'{layer}.blcok_out.0', (*ours, f'norm_out_{i}'))
    yield from linear(f'{layer}.blcok_out.3', (*ours, f'linear_out_{i}'))
    yield from linear(f'{layer}.short_cut', (*ours, f'shortcut_{i}'))
    yield from linear(f'{layer}.temb_proj.1', (*ours, f'time_map_{i}'))
    yield from linear(f'{layer}.cond_proj.1', (*ours, f'condition_map_{i}'))


def _diffusionret(counts: Counts) -> list[Rule]:
  found = [
    Rule('clip.logit_scale', ('params', 'log_scale')),
    Rule(
      'frame_position_embeddings.weight', ('params', 'temporal', 'positions')
    ),
  ]
  for theirs, ours in (('text', 'text_gate'), ('video', 'video_gate')):
    for i, name in ((0, 'hidden'), (2, 'score')):
      found += linear(f'{theirs}_weight_fc.{i}', (ours, name))
  for i in range(counts['transformerClip.resblocks.']):
    theirs, ours = f'transformerClip.resblocks.{i}', ('temporal', f'block_{i}')
    for j in (1, 2):
      found += norm(f'{theirs}.ln_{j}', (*ours, f'norm{j}'))
    inputs = ('params', *ours, 'inputs')
    found.append(
      Rule(f'{theirs}.attn.in_proj_weight', (*inputs, 'kernel'), True)
    )
    found.append(Rule(f'{theirs}.attn.in_proj_bias', (*inputs, 'bias')))
    found += linear(f'{theirs}.attn.out_proj', (*ours, 'output'))
    found += linear(f'{theirs}.mlp.c_fc', (*ours, 'inner'))
    found += linear(f'{theirs}.mlp.c_proj', (*ours, 'outer'))
  return found


def _generator(official: str) -> Layout:
  """Returns the layout of one of DiffusionRet's generators."""

  def rules(counts: Counts) -> list[Rule]:
    del counts
    found = [weight(f'{official}.{x}_proj', (f'{x}_proj',)) for x in 'qkv']
    found += linear(f'{official}.proj', ('proj',))
    for i in (0, 2):
      embedding = f'{official}.embed_timestep.time_embed.{i}'
      found += linear(embedding, (f'time_embed_{i}',))
      found += linear(f'{official}.decoder.{i}', (f'decoder_{i}',))
    return found

  return Layout(rules, {}, f'{official}.', ('pos_encoder.pe',))


# The first layout with a matching mark is taken.
LAYOUTS = {
  'dreamprvr': Layout(
    _dreamprvr,
    {
      'clip_encoder.e_attns.': _stacked(),
      'diffusion_mlp.layers.': (
        'params',
        'registers',
        'estimator',
        'linear_in_{}',
        'kernel',
      ),
    },
    'diffusion_mlp.',
  ),
  'hlformer': Layout(
    _hlformer,
    {
      'clip_encoder.e_attns.': _stacked(),
      'clip_encoder.h_attns.': (
        *_stacked('lorentz_parallel')[:-2],
        'scale',
      ),
    },
    'clip_encoder.h_attns.',
    ('manifold.k',),
  ),
  'msc': Layout(_msc, {'clip_encoder.attn': _stacked()}, 'vproj_clip.'),
  'ral': Layout(_ral, {'clip_encoder.attn': _stacked()}, 'pie_net_text.'),
  'holmes_multi': Layout(
    _words,
    {'clip_encoder.e_attns.': _stacked()},
    'frame_branch_query_encoder.',
    ('weight_token',),
  ),
  'holmes': Layout(
    _consolidated,
    {'clip_encoder.e_attns.': _stacked()},
    'clip_encoder.e_attns.',
    ('weight_token',),
  ),
  # Without CLIP itself, because its features are stored, and the generators.
  'diffusionret': Layout(
    _diffusionret,
    {
      'transformerClip.resblocks.': (
        'params',
        'temporal',
        'block_{}',
        'inputs',
        'kernel',
      )
    },
    'transformerClip.',
    (
      'clip.visual',
      'clip.transformer',
      'clip.token_embedding',
      'clip.positional_embedding',
      'clip.ln_final',
      'clip.text_projection',
      'diffusion_model',
    ),
  ),
  'ms_sl': Layout(_ms_sl, {}, 'mapping_linear.'),
  'gmmformer': Layout(
    _gmmformer, {'clip_encoder.attn': _stacked()}, 'clip_encoder_2.'
  ),
  'gmmformer_v2': Layout(
    _gmmformer_v2, {'clip_encoder.attn': _stacked()}, 'weight_token'
  ),
}
# Both are in one state dict, beside the retriever whose lists they re-rank.
GENERATORS = {
  'text_to_video': _generator('diffusion_model'),
  'video_to_text': _generator('diffusion_model_v'),
}
