"""Tests of the whole model, its losses included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.base import QueryEncoder
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from dreamprvr_jax.types import Batch, parameter_count
from tests.helpers import models
from tests.helpers.golden import inference

VISUAL, TEXT, CLIPS, FRAMES, WORDS, T = 6, 5, 4, 7, 6, 2
OBJECTIVE = models.objective(
  clip_nce=0.02,
  frame_nce=0.04,
  diversity=0.003,
  structure=0.01,
  variational=1e-4,
  diffusion=1e-3,
)


def build(**options):
  sizes = {
    'width': 8,
    'num_heads': 2,
    'num_clips': CLIPS,
    'max_frames': FRAMES,
    'max_words': WORDS,
    'block_widths': (0.0, 1.0),
    'num_registers': 2,
    'diffusion_steps': T,
    'diffusion_layers': 1,
  }
  return models.make('dreamprvr', **{**sizes, **options})


@functools.cache
def values():
  """Returns variables of the model with 2 registers, all of them random."""
  blank = blank_batch(
    VISUAL, TEXT, num_clips=CLIPS, max_frames=FRAMES, max_words=WORDS
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda p: (0.4 * rng.normal(size=p.shape)).astype(np.float32),
    variable_shapes(build(), blank),
  )


def make_batch(owner, frames, words, *, num_words=4, seed=1):
  rng = np.random.default_rng(seed)
  videos, captions = len(frames), len(owner)
  frame_mask = np.arange(FRAMES) < np.asarray(frames)[:, None]
  word_mask = np.arange(num_words) < np.asarray(words)[:, None]

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  return Batch(
    clip_features=normal(videos, CLIPS, VISUAL),
    frame_features=normal(videos, FRAMES, VISUAL) * frame_mask[..., None],
    frame_mask=frame_mask,
    video_mask=np.ones(videos, bool),
    word_features=normal(captions, num_words, TEXT) * word_mask[..., None],
    word_mask=word_mask,
    caption_mask=np.ones(captions, bool),
    caption_video=np.asarray(owner, np.int32),
  )


BATCH = make_batch([0, 0, 1, 2, 2], [7, 3, 5], [4, 2, 3, 1, 4])
DRAWS = np.random.default_rng(5).normal(size=(2, 3, 2, 8)).astype(np.float32)
RANKS = (np.asarray([1, 2, 2, 1, 1]), np.asarray([0, 2, 1]))


def losses(model, batch, draws, ranks):
  """Returns the total loss and its terms.

  The variables are an argument of the compiled function: constants would be
  folded, which takes longer than running it.
  """
  return _losses(model, values(), batch, draws, ranks)


@functools.partial(jax.jit, static_argnums=0)
def _losses(model, variables, batch, draws, ranks):
  output = model.apply(variables, batch, perturbation_draws=draws)
  total, terms = OBJECTIVE(output, batch, ranks)
  return {'total': total, **terms}


def both(ranks):
  return {'clip': ranks, 'frame': ranks}


@functools.cache
def plain_losses():
  out = losses(build(), BATCH, DRAWS, both(RANKS))
  assert len(out) == 9
  assert all(np.isfinite(value) for value in out.values())
  return out


def assert_same_losses(got):
  for name, expected in plain_losses().items():
    np.testing.assert_allclose(
      got[name], expected, rtol=2e-4, atol=2e-5, err_msg=name
    )


def lengthen(array, axis, count, fill):
  """Returns the array with `count` further entries on an axis."""
  shape = list(array.shape)
  shape[axis] = count
  rng = np.random.default_rng(7)
  if fill == 'noise' and array.dtype == np.float32:
    more = rng.normal(size=shape).astype(np.float32)
  else:
    more = np.full(shape, fill if fill != 'noise' else 0).astype(array.dtype)
  return np.concatenate([array, more], axis)


def test_padded_words_change_nothing():
  batch = BATCH.replace(
    word_features=lengthen(BATCH.word_features, 1, 2, 'noise'),
    word_mask=lengthen(BATCH.word_mask, 1, 2, False),
  )
  # The values of existing padded words do not matter either.
  batch.word_features[~batch.word_mask] = 3.0
  assert_same_losses(losses(build(), batch, DRAWS, both(RANKS)))


@pytest.mark.parametrize('real_words', [False, True])
def test_padded_captions_and_videos_change_nothing(real_words):
  batch = Batch(
    clip_features=lengthen(BATCH.clip_features, 0, 1, 'noise'),
    frame_features=lengthen(BATCH.frame_features, 0, 1, 'noise'),
    frame_mask=lengthen(BATCH.frame_mask, 0, 1, real_words),
    video_mask=lengthen(BATCH.video_mask, 0, 1, False),
    word_features=lengthen(BATCH.word_features, 0, 3, 'noise'),
    word_mask=lengthen(BATCH.word_mask, 0, 3, real_words),
    caption_mask=lengthen(BATCH.caption_mask, 0, 3, False),
    caption_video=lengthen(BATCH.caption_video, 0, 3, 0),
  )
  draws = lengthen(DRAWS, 1, 1, 'noise')
  ranks = (lengthen(RANKS[0], 0, 3, 1), lengthen(RANKS[1], 0, 1, 0))
  assert_same_losses(losses(build(), batch, draws, both(ranks)))


def test_padding_has_no_part_in_the_gradient():
  def pad(fill, real):
    return BATCH.replace(
      clip_features=lengthen(BATCH.clip_features, 0, 1, fill),
      frame_features=lengthen(BATCH.frame_features, 0, 1, fill),
      frame_mask=lengthen(BATCH.frame_mask, 0, 1, real),
      video_mask=lengthen(BATCH.video_mask, 0, 1, False),
      word_features=lengthen(BATCH.word_features, 0, 1, fill),
      word_mask=lengthen(BATCH.word_mask, 0, 1, real),
      caption_mask=lengthen(BATCH.caption_mask, 0, 1, False),
      caption_video=lengthen(BATCH.caption_video, 0, 1, 0),
    )

  draws = lengthen(DRAWS, 1, 1, 0.0)
  ranks = both((lengthen(RANKS[0], 0, 1, 1), lengthen(RANKS[1], 0, 1, 0)))

  @jax.jit
  def gradient(variables, batch):
    def total(params):
      output = build().apply(
        {**variables, 'params': params}, batch, perturbation_draws=draws
      )
      return OBJECTIVE(output, batch, ranks)[0]

    return jax.grad(total)(variables['params'])

  # The padding is zero and masked, as in the pipeline, and then noise.
  zeros = gradient(values(), pad(0.0, False))
  noise = gradient(values(), pad('noise', True))
  largest = 0.0
  for a, b in zip(jax.tree.leaves(zeros), jax.tree.leaves(noise), strict=True):
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    largest = max(largest, float(np.abs(a).max()))
  assert largest > 0.01


def test_one_query_and_one_video():
  batch = make_batch([0], [3], [2])
  draws = DRAWS[:, :1]
  ranks = (np.asarray([1]), np.asarray([0]))
  out = losses(build(), batch, draws, both(ranks))
  assert all(np.isfinite(value) for value in out.values())
  for name in (
    'clip_nce',
    'frame_nce',
    'clip_triplet',
    'frame_triplet',
    'diversity',
    'structure',
  ):
    np.testing.assert_allclose(out[name], 0, atol=1e-6)


def test_queries_and_videos_are_encoded_each_on_its_own():
  query, video, scores, _ = inference(build(), values(), BATCH)
  assert query.shape == (5, 8)
  assert video.clip_tokens.shape == (3, CLIPS, 8)
  assert video.frame_tokens.shape == (3, FRAMES, 8)
  np.testing.assert_array_equal(video.frame_tokens[~BATCH.frame_mask], 0)
  one_query, _, one_score, _ = inference(
    build(), values(), jax.tree.map(lambda x: x[1:2], BATCH)
  )
  np.testing.assert_allclose(one_query[0], query[1], rtol=1e-3, atol=1e-4)
  for field in ('clip', 'frame'):
    expected = getattr(scores, field)
    assert expected.shape == (5, 3)
    got = getattr(one_score, field)
    np.testing.assert_allclose(got, expected[1:2, 1:2], rtol=1e-3, atol=1e-4)
  # The score is the best cosine over the tokens, including zero tokens.
  for n, v in ((0, 1), (3, 2)):
    cosines = [
      float(np.dot(query[n], token))
      / max(np.linalg.norm(query[n]) * np.linalg.norm(token), 1e-12)
      for token in np.asarray(video.frame_tokens[v])
    ]
    np.testing.assert_allclose(scores.frame[n, v], max(cosines), atol=1e-4)


@pytest.mark.parametrize('encodings', [1, 2])
def test_query_encodings(encodings):
  model = build(query_encodings=encodings, input_dropout=0.3, dropout=0.3)

  @functools.partial(jax.jit, static_argnums=0)
  def run(train, key):
    output, state = model.apply(
      values(),
      BATCH,
      train=train,
      perturbation_draws=DRAWS,
      rngs={'dropout': key},
      mutable='intermediates',
      capture_intermediates=lambda module, _: isinstance(module, QueryEncoder),
    )
    encoded = state['intermediates']['query']['__call__']
    return output.text_queries, output.estimator.mean_queries, encoded

  text, mean, encoded = run(True, jax.random.key(0))
  assert len(encoded) == encodings
  np.testing.assert_array_equal(text, encoded[-1])
  if encodings == 2:
    assert not np.allclose(encoded[0], encoded[1])
  # The queries of the diffusion target are means of those of the text losses.
  np.testing.assert_allclose(mean[0], (text[0] + text[1]) / 2, rtol=1e-5)
  np.testing.assert_allclose(mean[1], text[2], rtol=1e-5)
  plain = run(False, jax.random.key(0))
  assert len(plain[2]) == 1
  np.testing.assert_array_equal(plain[0], run(False, jax.random.key(1))[0])


def test_three_query_encodings():
  with pytest.raises(UserError, match='query_encodings is 1 or 2 per step'):
    build(query_encodings=3).apply(values(), BATCH)


def test_bfloat16_is_close():
  got = losses(build(dtype=jnp.bfloat16), BATCH, DRAWS, both(RANKS))
  for name, expected in plain_losses().items():
    assert got[name].dtype == jnp.float32
    np.testing.assert_allclose(
      got[name], expected, rtol=0.15, atol=0.05, err_msg=name
    )


def test_perturbation_draws_come_from_their_stream():
  run = jax.jit(
    lambda key: (
      build()
      .apply(values(), BATCH, rngs={'perturbation': key})
      .estimator.predicted
    )
  )
  first = run(jax.random.key(0))
  assert first.shape == (T, 3, 2, 8)
  np.testing.assert_array_equal(first, run(jax.random.key(0)))
  assert not np.allclose(first, run(jax.random.key(1)))


@pytest.mark.parametrize(
  ('options', 'gone'),
  [
    ({'num_registers': 0}, {'sampler', 'estimator'}),
    ({'register_source': 'adaptive_pooling'}, {'sampler', 'estimator'}),
    ({'register_source': 'sampler'}, {'estimator'}),
    ({'register_start': 'random'}, {'sampler'}),
  ],
)
def test_ablated_systems(options, gone):
  model = build(**options)

  def run():
    keys = dict.fromkeys(
      ('params', 'registers', 'perturbation'), jax.random.key(0)
    )
    return model.init_with_output(keys, BATCH)[0]

  output = jax.eval_shape(run)
  missing = {name for name, value in vars(output).items() if value is None}
  others = {
    *('guided_scores', 'cone', 'alignment', 'interaction', 'proxies'),
    'trace_scores',
  }
  assert missing - others == gone


def test_parameter_count():
  model = models.make('dreamprvr', num_registers=6)
  batch = blank_batch(1024, 1024, num_clips=32, max_frames=128, max_words=30)
  variables = variable_shapes(model, batch)
  assert set(variables) == {'params', 'constants'}
  assert parameter_count(variables) == 36_139_968
  assert parameter_count(variables['constants']) == 10 * 384
