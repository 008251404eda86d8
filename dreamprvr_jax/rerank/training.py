"""Training a re-ranker on the lists of a frozen retriever."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Int

from dreamprvr_jax import rng
from dreamprvr_jax.devices import meshes, resident
from dreamprvr_jax.losses.listwise import listwise_entropy
from dreamprvr_jax.rerank.features import RerankFeatures
from dreamprvr_jax.rerank.networks import RerankModel
from dreamprvr_jax.train.step import Scalars, TrainState, guarded


@struct.dataclass
class RerankState(TrainState):
  """The state of a training, with the average of its parameters."""

  average: Any = None

  def variables(self) -> dict[str, Any]:
    """Returns the variables that are evaluated: the averages."""
    return {'params': self.average}


def create_state(
  variables: Any, optimizer: optax.GradientTransformation
) -> RerankState:
  """Returns the state before the first update; the average starts from the
  parameters."""
  params = variables['params']
  return RerankState(
    step=jnp.zeros((), jnp.int32),
    alive=jnp.ones((), bool),
    params=params,
    constants={},
    opt_state=optimizer.init(params),
    average=jax.tree.map(jnp.array, params),
  )


def update(
  state: RerankState,
  features: RerankFeatures,
  rows: Int[Array, ' b'],
  lists: Int[Array, 'b k'],
  *,
  model: RerankModel,
  optimizer: optax.GradientTransformation,
  temperature: float,
  decay: float,
  seed: int,
) -> tuple[RerankState, Scalars]:
  """Returns the next state and the scalars of one update.

  As in training a retriever, a loss or gradient that is not finite leaves the
  state as it was; see `train.step.guarded`.

  Args:
    state: The state.
    features: Those of the training split.
    rows: Queries of the batch.
    lists: Their candidates, the right one first.
    model: The re-ranker.
    optimizer: From `make_optimizer`.
    temperature: Multiplies the scores in the loss.
    decay: Share of the former average in the next one.
    seed: The run's.
  """
  key = rng.stream_key(seed, 'rerank', state.step)

  def loss(params):
    found = model.training_pass(
      {'params': params}, key, features.inputs(rows, lists)
    )
    mask = jnp.ones(found.shape, bool)
    return listwise_entropy(found, mask, temperature).mean()

  total, gradients = jax.value_and_grad(loss)(state.params)
  average = lambda params: {
    'average': jax.tree.map(
      lambda mean, new: decay * mean + (1 - decay) * new, state.average, params
    )
  }
  return guarded(state, optimizer, state.params, total, gradients, average)


class ListFeeder:
  """Makes the updates of a training, each epoch in an order of its own.

  See `train.feeders.Feeder`.
  """

  def __init__(
    self,
    features: RerankFeatures,
    lists: Int[np.ndarray, 'n k'],
    mesh: Mesh,
    *,
    batch_size: int,
    seed: int,
    **parts: Any,
  ):
    """Compiles nothing yet.

    Args:
      features: Those of the training split, on the devices.
      lists: Candidates of every query.
      mesh: The device mesh.
      batch_size: Lists of an update.
      seed: The run's.
      **parts: Keyword arguments of `update`.
    """
    self._features = features
    self._lists = jax.device_put(lists, meshes.replicated(mesh))
    self.steps_per_epoch = steps = steps_of(len(lists), batch_size)
    batch = min(batch_size, len(lists))

    def run(state, features, lists):
      epoch, number = state.step // steps, state.step % steps
      order = resident.epoch_order(len(lists), seed, epoch)
      rows = jax.lax.dynamic_slice_in_dim(order, number * batch, batch)
      if batch % mesh.size == 0:
        rows = jax.lax.with_sharding_constraint(rows, meshes.by_row(mesh))
      return update(state, features, rows, lists[rows], seed=seed, **parts)

    whole = meshes.replicated(mesh)
    self._run: Callable[..., Any] = jax.jit(
      run,
      in_shardings=(whole, whole, whole),
      out_shardings=(whole, whole),
      donate_argnums=(0,),
    )
    self._before: Scalars | None = None

  def advance(
    self, state: RerankState, first: int, count: int
  ) -> tuple[RerankState, Scalars, int]:
    """See `Feeder`; the state says which batch comes next."""
    del first, count
    state, scalars = self._run(state, self._features, self._lists)
    jax.block_until_ready(self._before)
    self._before = scalars
    return state, scalars, 1

  def close(self) -> None:
    """Does nothing: there is no background work."""


def steps_of(count: int, batch_size: int) -> int:
  """Returns the updates of an epoch.

  The last queries of an epoch that do not fill a batch are left out.
  """
  return max(count // batch_size, 1)
