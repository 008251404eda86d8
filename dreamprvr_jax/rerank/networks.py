"""Re-ranking networks by config: their training pass and their scores."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dreamprvr_jax.diffusion.process import q_sample_rows, sampling_steps
from dreamprvr_jax.diffusion.sampler import sample
from dreamprvr_jax.diffusion.schedule import Schedule, schedule_of
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.generator import (
  CrossAttentionScorer,
  TextToVideoGenerator,
)

NETWORKS = ('generator', 'cross_attention')
PASSES = ('sample', 'single')


# Equal only to itself: the schedule has arrays.
@dataclasses.dataclass(frozen=True, eq=False)
class RerankModel:
  """A network that scores the candidates of a query.

  Attributes:
    network: The Flax module.
    schedule: Schedule of the diffusion process.
    diffusion: Whether the network is trained on noisy scores. If not, it gets
      zeros and step 0, and makes one pass.
    negative: Clean score of wrong candidates (0 or -1).
    eta: DDIM's share of fresh noise per step.
  """

  network: nn.Module
  schedule: Schedule
  diffusion: bool
  negative: float
  eta: float

  def init(self, key: Key[Array, ''], tokens_per_video: int, width: int) -> Any:
    """Returns the initial variables."""
    lists = (
      jnp.zeros((1, width)),
      jnp.zeros((1, 2, tokens_per_video, width)),
      jnp.ones((1, 2, tokens_per_video), bool),
      jnp.ones((1, 2), bool),
    )
    x, steps = jnp.zeros((1, 2)), jnp.zeros((1,), jnp.int32)
    return self.network.init(key, x, steps, *lists)

  def training_pass(
    self, variables: Any, key: Key[Array, ''], inputs: tuple[Any, ...]
  ) -> Float[Array, 'b k']:
    """Returns the network's output on lists that begin with the right video.

    With diffusion, each list is at one random step; see docs/method.md,
    "Re-ranking".

    Args:
      variables: The network's variables.
      key: Randomness of this pass.
      inputs: From `RerankFeatures.inputs`.
    """
    shape = inputs[1].shape[:2]
    steps = jnp.zeros(shape[0], jnp.int32)
    x = jnp.zeros(shape)
    if self.diffusion:
      of_steps, of_noise = jax.random.split(key)
      steps = jax.random.randint(
        of_steps, steps.shape, 0, self.schedule.num_steps
      )
      clean = jnp.full(shape, self.negative).at[:, 0].set(1.0)
      noise = jax.random.normal(of_noise, shape)
      x = q_sample_rows(self.schedule, clean, noise, steps)
    mask = jnp.ones(shape, bool)
    found: Any = self.network.apply(variables, x, steps, *inputs, mask)
    return found

  def scores(
    self,
    variables: Any,
    key: Key[Array, ''],
    numbers: Int[Array, ' b'],
    inputs: tuple[Any, ...],
    *,
    how: str,
    num_steps: int,
  ) -> Float[Array, 'b k']:
    """Returns the clean scores of some lists.

    Args:
      variables: The network's variables.
      key: Key of the noise that sampling starts from.
      numbers: Numbers of the queries. Each draws its own noise, whatever the
        other queries are.
      inputs: From `RerankFeatures.inputs`.
      how: 'sample' (DDIM from noise) or 'single' (one pass at x = 0 and the
        noisiest step, where x carries no information).
      num_steps: Steps of DDIM.
    """
    if how not in PASSES:
      raise UserError(f'a pass is one of {PASSES}, not {how!r}')
    shape = inputs[1].shape[:2]
    mask: Bool[Array, 'b k'] = jnp.ones(shape, bool)
    if not self.diffusion or how == 'single':
      last = self.schedule.num_steps - 1 if self.diffusion else 0
      steps = jnp.full(shape[0], last, jnp.int32)
      found: Any = self.network.apply(
        variables, jnp.zeros(shape), steps, *inputs, mask
      )
      return jnp.clip(found, -1.0, 1.0) if self.diffusion else found
    apply: Any = self.network.apply
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)
    draw = lambda t: jax.vmap(
      lambda k: jax.random.normal(jax.random.fold_in(k, t), shape[1:])
    )(keys)
    terms = apply(variables, *inputs, mask, method='terms')
    return sample(
      self.schedule,
      lambda x, step: apply(variables, x, step, terms, method='denoise'),
      # Not the number of a step: DDIM draws those if eta is not 0.
      draw(self.schedule.num_steps),
      step_inputs=apply(variables, method='step_terms'),
      noise=draw,
      prediction='start',
      method='ddim',
      num_steps=num_steps,
      eta=self.eta,
    )


def build_reranker(settings: Mapping[str, Any], width: int) -> RerankModel:
  """Returns the re-ranker that `config.rerank` describes.

  Args:
    settings: `config.rerank`.
    width: Width of the retriever's queries and tokens.

  Raises:
    UserError: If an option is unknown.
  """
  schedule = schedule_of(settings['schedule'], settings['num_steps'])
  name, network = settings['network'], None
  if name == 'generator':
    network = TextToVideoGenerator(
      width,
      settings['num_steps'],
      pool_temperature=settings['pool_temperature'],
      mask_mode=settings['mask_mode'],
      feature_norm=settings['feature_norm'],
      feature_scale=settings['feature_scale'],
    )
  elif name == 'cross_attention':
    network = CrossAttentionScorer(width)
  else:
    raise UserError(
      f'config.rerank.network is {name!r}; choose from {NETWORKS}'
    )
  # Checked now rather than after the training.
  sampling_steps(schedule, settings['sampling_steps'])
  return RerankModel(
    network,
    schedule,
    diffusion=settings['diffusion'] and name == 'generator',
    negative=settings['negative'],
    eta=settings['eta'],
  )
