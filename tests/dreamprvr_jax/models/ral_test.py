"""RAL against numbers of the released program, and its options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax import rng
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop import official
from dreamprvr_jax.models.gaussians import text_support, video_support
from dreamprvr_jax.models.outputs import ProxyPair
from dreamprvr_jax.models.ral import RAL
from dreamprvr_jax.objectives.terms import TERMS
from dreamprvr_jax.types import VideoEncoding
from tests.helpers import golden as files
from tests.helpers import models

GOLDEN = files.load('ral_tiny')
BATCH = files.batch_of(GOLDEN)
DRAWS = np.stack([GOLDEN['draws/eps_text'], GOLDEN['draws/eps_video']])
MODEL = models.make('ral', width=32)
LOSSES = {'proxy_matching': 'mil', 'proxy_divergence': 'vib'}


@functools.cache
def variables():
  wanted = files.shapes(MODEL, 24, 20, 30)
  return official.from_official(files.part(GOLDEN, 'params'), wanted, 'ral')


def losses_of(pair, batch=BATCH, **given):
  """Returns {name: value} of both losses."""
  objective = models.objective(**given)
  output = Output(pair)
  return {
    name: TERMS[name].value(objective, output, batch, {}) for name in LOSSES
  }


class Output:
  """The part of a model's output that the losses read."""

  def __init__(self, proxies):
    self.proxies = proxies


def pair_of(words, frames, padded='both', most=26):
  """Returns both sides' Gaussians and proxies."""
  params = variables()['params']
  videos = VideoEncoding(frames, frames, BATCH.frame_mask)
  text = text_support(
    words,
    BATCH,
    length=jnp.asarray(9),
    most=most,
    padded=padded in ('both', 'text'),
  )
  video = video_support(videos, padded=padded in ('both', 'video'))
  apply = lambda side, support, draws: MODEL.apply(
    {'params': params},
    support,
    draws,
    method=lambda self, *given: getattr(self, f'{side}_head')(*given),
  )
  return ProxyPair(
    apply('text', text, DRAWS[0]), apply('video', video, DRAWS[1])
  )


def inputs():
  return GOLDEN['eval/frame_query_tokens'], GOLDEN['eval/frame_feat']


def test_gaussians_and_proxies():
  words, frames = inputs()
  text = text_support(words, BATCH, length=jnp.asarray(9), most=26, padded=True)
  video = video_support(
    VideoEncoding(frames, frames, BATCH.frame_mask), padded=True
  )
  golden = files.part(GOLDEN, 'train')
  assert files.distance(text.pooled, golden['support_pooled']) < 1e-5
  assert files.distance(video.pooled, golden['video_pooled']) < 1e-5
  pair = jax.device_get(jax.jit(pair_of)(words, frames))
  for side in ('text', 'video'):
    found = getattr(pair, side)
    for name, value in (
      ('mean', found.mu),
      ('logsigma', found.spread),
      ('samples', found.proxies),
    ):
      assert files.distance(value, golden[f'{side}_{name}']) < 1e-5, name


@pytest.mark.parametrize('name', LOSSES)
def test_gradients_into_words_and_frames(name):
  loss = lambda words, frames: losses_of(pair_of(words, frames))[name]
  found = jax.jit(jax.grad(loss, (0, 1)))(*inputs())
  expected = files.part(GOLDEN, f'partial/{LOSSES[name]}')
  # Padded words are among them.
  assert files.distance(found[0], expected['frame_query_tokens']) < 1e-4
  real = BATCH.frame_mask[:, ::4, None]
  theirs = expected['frame_feat_every_4th'] * real
  assert files.distance(found[1][:, ::4] * real, theirs) < 1e-4


# PM and DA of the released program's arrays under other readings.
@pytest.mark.parametrize(
  ('sides', 'factors', 'expected'),
  [
    ({}, {}, (14.6000, 32.8397)),
    ({'padded': 'video'}, {}, (22.42, 60.34)),
    ({'padded': 'text'}, {}, (15.00, 34.08)),
    ({'most': 5}, {}, (15.81, 36.15)),
    ({}, {'sampled_means': False}, (14.60, 18.84)),
    ({}, {'spread_as_variance': False}, (14.60, 43.42)),
  ],
)
def test_options_of_the_gaussians(sides, factors, expected):
  losses = jax.jit(
    lambda words, frames: losses_of(pair_of(words, frames, **sides), **factors)
  )
  found = losses(*inputs())
  np.testing.assert_allclose(
    [found[name] for name in LOSSES], expected, atol=6e-3
  )


def test_words_and_frames():
  unit = files.part(GOLDEN, 'unit/words')
  mask = unit['mask'] > 0

  def total(tokens, frames, params):
    rows = jnp.where(mask[..., None], tokens, 0)
    rows = jnp.concatenate([jnp.zeros((4, 1, 32)), rows], axis=1)
    videos = VideoEncoding(frames, frames, BATCH.frame_mask)
    found = MODEL.apply(
      {'params': params}, rows.reshape(4, -1), videos, method='compare'
    )
    scores = found.cosine.frame, found.raw.frame
    return jnp.sum(unit['weight'] * (scores[0] + 0.1 * scores[1])), scores

  given = unit['tokens'], GOLDEN['eval/frame_feat'], variables()['params']
  gradients, scores = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(*given)
  assert unit['floored'].any()
  assert files.distance(scores[0], unit['scores']) < 1e-5
  assert files.distance(scores[1], unit['scores_raw']) < 1e-5
  assert files.distance(gradients[0], unit['grad_tokens']) < 1e-4
  real = BATCH.frame_mask[..., None]
  theirs = unit['grad_frame_feat'] * real
  assert files.distance(gradients[1] * real, theirs) < 1e-4
  weights = official.to_official({'params': gradients[2]}, 'ral')
  for name, value in weights.items():
    if name.startswith('text_weight_fc') and name != 'text_weight_fc.2.bias':
      assert files.distance(value, unit[f'grad_{name}']) < 1e-4, name


def test_confidences():
  golden = {**files.part(GOLDEN, 'eval'), **files.part(GOLDEN, 'train')}
  words = golden['frame_query_tokens'] * BATCH.word_mask[..., None]
  size = np.linalg.norm(words, axis=-1, keepdims=True)
  weigh = lambda tokens: models.apply(
    MODEL, variables(), tokens, method=lambda self, x: self.word_weights(x)
  )
  unit = weigh(words / np.maximum(size, 1e-12))
  assert files.distance(unit, golden['confidence']) < 1e-5
  assert files.distance(weigh(words), golden['confidence_raw']) < 1e-5


class Longer(RAL):
  """RAL on a batch whose longest caption has twelve words."""

  def support_length(self, word_mask, caption_mask):
    return jnp.asarray(12)


@functools.partial(jax.jit, static_argnums=0)
def losses_in(model, batch):
  output = model.apply(variables(), batch, proxy_draws=DRAWS)
  return losses_of(output.proxies, batch), output.frame_scores.cosine


def lengthened(words):
  """Returns the batch with captions padded to a number of words."""
  pad = (0, words - 9)
  return BATCH.replace(
    word_features=np.pad(BATCH.word_features, ((0, 0), pad, (0, 0))),
    word_mask=np.pad(BATCH.word_mask, ((0, 0), pad)),
  )


def test_a_longer_caption_elsewhere_changes_the_gaussians():
  expected = files.part(GOLDEN, 'variants/words_padded_to_12')
  longer = Longer(dtype=jnp.float32, **models.fields('ral', width=32))
  found, scores = losses_in(longer, lengthened(12))
  for ours, theirs in LOSSES.items():
    assert files.distance(found[ours], expected[f'{theirs}_raw']) < 1e-5
  assert files.distance(scores, GOLDEN['train/frame_scores']) < 1e-5


def test_padding_changes_nothing():
  """Fixed lengths and absent captions give the numbers of the batch itself."""
  plain = lengthened(30)
  rows = ((0, 5), (0, 0))
  padded = plain.replace(
    word_features=np.pad(plain.word_features, (*rows, (0, 0))),
    word_mask=np.pad(plain.word_mask, rows),
    caption_mask=np.pad(plain.caption_mask, rows[0]),
    caption_video=np.pad(plain.caption_video, rows[0]),
  )
  found, scores = losses_in(MODEL, padded)
  for ours, theirs in LOSSES.items():
    assert files.distance(found[ours], GOLDEN[f'loss/{theirs}_raw']) < 1e-5
  assert files.distance(scores[:11], GOLDEN['train/frame_scores']) < 1e-5


def test_draws_depend_on_seed_and_step_alone():
  draw = jax.jit(
    lambda seed, step: (
      MODEL.apply(
        variables(),
        BATCH,
        rngs={'proxies': rng.stream_key(seed, 'proxies', step)},
      ).proxies.text.proxies
    ),
    static_argnums=0,
  )
  np.testing.assert_array_equal(draw(1, 5), draw(1, 5))
  assert not np.allclose(draw(1, 5), draw(1, 6))
  assert not np.allclose(draw(1, 5), draw(2, 5))


def test_an_unknown_side_is_refused():
  model = models.make('ral', width=32, padded_support='left')
  with pytest.raises(UserError, match=r"padded_support 'left'.*'both'"):
    files.shapes(model, 24, 20)
