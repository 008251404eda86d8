"""DiffusionRet's retriever: golden scores and formulas."""

import functools

import jax
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.temporal import TemporalTransformer
from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.models.template import blank_batch
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.types import VideoEncoding
from tests.helpers import models
from tests.helpers.golden import distance, load, part
from tests.helpers.models import apply

MODEL = models.make(
  'diffusionret',
  feature_norm='raw',
  num_heads=8,
  width=32,
  num_layers=1,
  num_positions=12,
  max_frames=12,
  max_words=7,
)
init = jax.jit(MODEL.init)


@functools.cache
def golden():
  """Returns the file, our variables, and our encodings of its queries and
  videos."""
  file = load('diffusionret_tiny')
  state = part(file, 'params')
  blank = blank_batch(32, 32, num_clips=4, max_frames=12, max_words=7)
  variables = init(jax.random.key(0), blank)
  params = {**variables['params']}
  for ours, theirs in (('text_gate', 'text'), ('video_gate', 'video')):
    params[ours] = {
      name: {
        'kernel': state[f'{theirs}_weight_fc.{i}.weight'].T,
        'bias': state[f'{theirs}_weight_fc.{i}.bias'],
      }
      for i, name in ((0, 'hidden'), (2, 'score'))
    }
  params['log_scale'] = state['clip.logit_scale']
  queries = apply(
    MODEL,
    {'params': params},
    file['batch/text_feat'],
    file['batch/text_mask'] > 0,
    method='encode_query',
  )
  mask = file['batch/video_mask'] > 0
  frames = np.where(mask[..., None], file['batch/video_feat'], 0)
  videos = VideoEncoding(frames[:, :0], frames, mask)
  return file, {'params': params}, queries, videos


def test_scores():
  file, variables, queries, videos = golden()
  found = apply(MODEL, variables, queries, videos, method='score')
  scores = 0.5 * found.clip + 0.5 * found.frame
  assert distance(scores, file['scorer/scores']) < 1e-5
  # Masked pairs count as 0 inside the maxima.
  assert file['scorer/scores'][6, 9] == scores[6, 9] == 0


def test_gates():
  file, variables, _, videos = golden()
  mask = file['batch/text_mask'] > 0
  text = apply(
    MODEL,
    variables,
    file['batch/text_feat'],
    mask,
    method=lambda m, x, mask: m.text_gate(x, mask),
  )
  assert distance(text, file['scorer/text_weights']) < 1e-5
  video = apply(
    MODEL,
    variables,
    videos.frame_tokens,
    videos.frame_mask,
    method=lambda m, x, mask: m.video_gate(x, mask),
  )
  assert distance(video, file['scorer/video_weights']) < 1e-5


def test_loss():
  """Among the ten pairs, two of the same video are negatives of each other. The
  released program also gives each caption its own video."""
  file, variables, queries, videos = golden()
  scores = apply(MODEL, variables, queries, videos, method='score')
  whole = 0.5 * scores.clip + 0.5 * scores.frame
  blank = blank_batch(32, 32, num_clips=4, max_frames=12, max_words=7)
  batch = blank.replace(
    caption_video=np.arange(10, dtype=np.int32),
    caption_mask=np.ones(10, bool),
    video_mask=np.ones(10, bool),
  )
  scale = np.exp(variables['params']['log_scale'])
  output = RetrievalOutput(None, None, interaction=scale * whole)
  objective = build_objective(
    'diffusionret',
    MODEL,
    **models.loss_fields(interaction=1.0, clip_triplet=0.0, frame_triplet=0.0),
  )
  total, terms = jax.jit(lambda output: objective(output, batch, {}))(output)
  assert set(terms) == {'interaction'}
  assert float(total) == pytest.approx(file['loss/discrimination'], rel=1e-5)


def test_temporal_transformer_by_the_formulas():
  rng = np.random.default_rng(0)
  frames = rng.normal(size=(2, 5, 8)).astype(np.float32)
  mask = np.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
  module = TemporalTransformer(2, 2, 6)
  shapes = jax.eval_shape(module.init, jax.random.key(0), frames, mask)
  variables = jax.tree.map(
    lambda p: rng.normal(0, 0.3, p.shape).astype(np.float32), shapes
  )
  p = variables['params']

  def norm(x, w):
    x = x - x.mean(-1, keepdims=True)
    return (
      x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * w['scale']
      + w['bias']
    )

  affine = lambda x, w: x @ w['kernel'] + w['bias']
  h = frames + p['positions'][:5]
  for i in range(2):
    w = p[f'block_{i}']
    q, k, v = np.split(affine(norm(h, w['norm1']), w['inputs']), 3, axis=-1)
    heads = []
    for part_ in (slice(0, 4), slice(4, 8)):
      logits = q[..., part_] @ np.swapaxes(k[..., part_], 1, 2) / 2.0
      logits = logits - 1e6 * (1 - mask[:, None])
      weights = np.exp(logits - logits.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      heads.append(weights @ v[..., part_])
    h = h + affine(np.concatenate(heads, -1), w['output'])
    z = affine(norm(h, w['norm2']), w['inner'])
    h = h + affine(z / (1 + np.exp(-1.702 * z)), w['outer'])
  found = apply(module, variables, frames, mask)
  assert distance(found, h + frames) < 1e-5


def test_features_of_clip_are_taken_as_they_are():
  blank = blank_batch(32, 32, num_clips=4, max_frames=12, max_words=7)
  assert 'text_input' not in init(jax.random.key(0), blank)['params']
  other = blank_batch(24, 20, num_clips=4, max_frames=12, max_words=7)
  params = init(jax.random.key(0), other)['params']
  assert params['video_input']['linear']['kernel'].shape == (24, 32)
  assert params['text_input']['linear']['kernel'].shape == (20, 32)


def test_the_norm_of_features():
  """Stored features have norm 1, those that the released program reads CLIP's:
  the scores of the former, scaled, are those of raw features of that norm."""
  file, variables, *_ = golden()
  scaled = MODEL.clone(feature_norm='scaled', feature_scale=3.0)
  words, frames = (
    l2_normalize(file[f'batch/{name}_feat']) for name in ('text', 'video')
  )
  words_real, frames_real = (
    file[f'batch/{name}_mask'] > 0 for name in ('text', 'video')
  )

  def scores(model, words, frames):
    queries = model.encode_query(words, words_real)
    videos = model.encode_video(frames[:, :4], frames, frames_real, train=False)
    return model.score(queries, videos)

  found = apply(scaled, variables, words, frames, method=scores)
  raw = apply(MODEL, variables, 3 * words, 3 * frames, method=scores)
  np.testing.assert_allclose(found.clip, raw.clip, atol=1e-5)
  np.testing.assert_allclose(found.frame, raw.frame, atol=1e-5)
  unscaled = apply(MODEL, variables, words, frames, method=scores)
  assert distance(unscaled.frame, raw.frame) > 1e-2


def test_an_unknown_norm():
  blank = blank_batch(32, 32, num_clips=4, max_frames=12, max_words=7)
  with pytest.raises(UserError, match=r"feature_norm 'max' .*'raw', 'unit'"):
    MODEL.clone(feature_norm='max').init(jax.random.key(0), blank)


def test_the_last_token_stands_for_a_query():
  words = np.random.default_rng(0).normal(size=(2, 7, 32)).astype(np.float32)
  mask = np.arange(7) < np.asarray([[7], [3]])
  blank = blank_batch(32, 32, num_clips=4, max_frames=12, max_words=7)
  variables = init(jax.random.key(0), blank)
  rows = apply(MODEL, variables, words, mask, method='encode_query')
  pooled = MODEL.pooled(rows)
  np.testing.assert_array_equal(pooled, words[[0, 1], [6, 2]])


def test_the_scale_is_bounded():
  params = {'log_scale': np.float32(9), 'other': np.zeros(2, np.float32)}
  assert float(MODEL.constrain(params)['log_scale']) == pytest.approx(4.60517)


def test_more_frames_than_positions():
  model = MODEL.clone(max_frames=13)
  blank = blank_batch(32, 32, num_clips=4, max_frames=13, max_words=7)
  with pytest.raises(UserError, match=r'max_frames is 13, .* 12 positions'):
    model.init(jax.random.key(0), blank)
