"""One update, a pure function of state and batch; many in one program."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from dreamprvr_jax import rng
from dreamprvr_jax.devices import meshes, resident
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.types import Batch

Scalars = dict[str, Float[Array, '...']]
# (state, batch) -> (state, scalars)
TrainStep = Callable[..., Any]
# (state, split, count, slots) -> (state, scalars of each update)
TrainSteps = Callable[..., Any]


class Objective(Protocol):
  """Which losses, which weights; see the package `objectives`."""

  def draw(self, key: Any, batch: Batch, hard: Any) -> Any: ...

  def __call__(
    self, output: Any, batch: Batch, ranks: Any
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]: ...


@struct.dataclass
class TrainState:
  """All that an update changes, and the model's constants."""

  step: Any  # () int32, number of updates made
  alive: Any  # () bool, False once a loss or gradient was not finite
  params: Any
  constants: Any  # collections that are not trained
  opt_state: Any

  def variables(self) -> dict[str, Any]:
    """Returns the variables that the model is applied with."""
    return {'params': self.params, **self.constants}


State = TypeVar('State', bound=TrainState)


def init_variables(model: Model, batch: Batch, seed: int) -> dict[str, Any]:
  """Returns the initial variables of a model.

  Args:
    model: The model.
    batch: Only the shapes of its arrays matter.
    seed: The run's.
  """
  streams = ('dropout', 'perturbation', 'registers', 'proxies')
  rngs = {name: rng.stream_key(seed, name) for name in streams}
  rngs['params'] = rng.stream_key(seed, 'init')
  variables = _initializer()(model, rngs, batch)
  return {k: v for k, v in variables.items() if k != 'intermediates'}


@functools.cache
def _initializer() -> Callable[..., Any]:
  # One function for all models: JAX keeps what it traced for equal ones.
  return jax.jit(
    lambda model, rngs, batch: model.init(rngs, batch),
    static_argnums=0,
    compiler_options=meshes.compiler_options(level=0),
  )


def create_state(
  variables: dict[str, Any], optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first update."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    alive=jnp.ones((), bool),
    params=variables['params'],
    constants={k: v for k, v in variables.items() if k != 'params'},
    opt_state=optimizer.init(variables['params']),
  )


def global_norm(tree: Any) -> Float[Array, '']:
  """Returns the Euclidean norm of all numbers of a tree."""
  square = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
  return jnp.sqrt(sum(square))


def guarded(
  state: State,
  optimizer: optax.GradientTransformation,
  params: Any,
  loss: Float[Array, ''],
  gradients: Any,
  follow: Callable[[Any], dict[str, Any]] = lambda params: {},
) -> tuple[State, Scalars]:
  """Returns the next state, and the scalars of the update.

  A loss or gradient that is not finite leaves the state as it was, and so
  does every update after it: the caller may look at the scalars late and
  still finds the last good state.

  Args:
    state: The state.
    optimizer: From gradients to updates.
    params: What is updated: the state's parameters within their bounds.
    loss: The loss at `params`.
    gradients: Its gradients.
    follow: From the next parameters to the other fields of the next state.
  """
  norm = global_norm(gradients)
  alive = state.alive & jnp.isfinite(loss) & jnp.isfinite(norm)
  updates, opt_state = optimizer.update(gradients, state.opt_state, params)
  params = optax.apply_updates(params, updates)
  fresh = {'params': params, 'opt_state': opt_state, **follow(params)}
  # Selects fuse into the update. A branch would have to be read by the host
  # on a GPU, which then stands still in every step.
  kept = jax.tree.map(
    lambda new, old: jnp.where(alive, new, old),
    fresh,
    {name: getattr(state, name) for name in fresh},
  )
  step = state.step + alive.astype(jnp.int32)
  return (
    dataclasses.replace(state, step=step, alive=alive, **kept),
    {'loss/total': loss, 'gradient_norm': norm, 'alive': alive},
  )


def update(
  state: TrainState,
  batch: Batch,
  *,
  model: Model,
  objective: Objective,
  optimizer: optax.GradientTransformation,
  seed: int,
  hard_from_step: int,
  constants: Callable[[Any, Any], Any] | None = None,
) -> tuple[TrainState, Scalars]:
  """Returns the next state and the scalars of one update; see `guarded`.

  Args:
    state: The state.
    batch: The batch.
    model: The model.
    objective: The losses.
    optimizer: From gradients to updates.
    seed: The run's.
    hard_from_step: Update from which on the objective is in its later regime.
    constants: From the state's constants and the updates made to the next
      constants; None if they never change.
  """
  keys = rng.step_keys(seed, state.step)
  hard = state.step >= hard_from_step
  former = model.constrain(state.params)

  def loss(params):
    output = model.apply(
      {'params': params, **state.constants},
      batch,
      train=True,
      rngs={name: keys[name] for name in keys if name != 'negatives'},
    )
    ranks = objective.draw(keys['negatives'], batch, hard)
    return objective(output, batch, ranks)

  (total, terms), gradients = jax.value_and_grad(loss, has_aux=True)(former)
  follow: dict[str, Any] = {}
  if constants is not None:
    scheduled = constants(state.constants, state.step + 1)
    follow['follow'] = lambda params: {'constants': scheduled}
  state, scalars = guarded(state, optimizer, former, total, gradients, **follow)
  return state, {
    **scalars,
    **{f'loss/{name}': value for name, value in terms.items()},
  }


# Kept, so that another run of this process with the same settings finds it
# traced.
@functools.lru_cache(maxsize=4)
def compile_update(mesh: Mesh, **parts: Any) -> TrainStep:
  """Returns `update`, jitted over the mesh; the state is donated.

  Parameters are replicated and the batch is split by row. Similarities are
  those of the whole global batch.

  Args:
    mesh: The device mesh.
    **parts: Keyword arguments of `update`.
  """
  whole = meshes.replicated(mesh)
  return jax.jit(
    lambda state, batch: update(state, batch, **parts),
    in_shardings=(whole, meshes.by_row(mesh)),
    out_shardings=(whole, whole),
    donate_argnums=(0,),
    compiler_options=meshes.compiler_options(mesh),
  )


@functools.lru_cache(maxsize=4)
def compile_steps(
  mesh: Mesh, *, batch_size: int, steps_per_epoch: int, most: int, **parts: Any
) -> TrainSteps:
  """Returns a program of several updates on a split in device memory.

  It takes (state, split, count, slots) and makes `count` updates from the
  state's step on, all of one epoch, with `slots` caption slots each (static).
  The state is donated. It returns the state and the scalars of each update,
  stacked: zeros behind the last one, `alive` included. It ends early after an
  update that was not finite. One program serves every count.

  Args:
    mesh: The device mesh.
    batch_size: Videos of a batch.
    steps_per_epoch: Updates of an epoch.
    most: The greatest count, and the length of the stacked scalars.
    **parts: Keyword arguments of `update`.
  """
  whole = meshes.replicated(mesh)

  # Jitted so that it is traced once, for the shapes and for the loop.
  @functools.partial(jax.jit, static_argnums=(3,))
  def one(state, split, order, slots):
    batch = resident.train_batch(
      split,
      order,
      state.step % steps_per_epoch,
      mesh,
      batch_size=batch_size,
      slots=slots,
    )
    state, scalars = update(state, batch, **parts)
    return jax.lax.with_sharding_constraint(state, whole), scalars

  def run(state, split, count, slots):
    epoch = state.step // steps_per_epoch
    order = resident.epoch_order(split.num_videos, parts['seed'], epoch)

    def body(carry):
      done, state, stacked = carry
      state, scalars = one(state, split, order, slots)
      stacked = {
        name: values.at[done].set(scalars[name])
        for name, values in stacked.items()
      }
      return done + 1, state, stacked

    scalars = jax.eval_shape(lambda: one(state, split, order, slots)[1])
    stacked = {
      name: jnp.zeros((most,), shape.dtype) for name, shape in scalars.items()
    }
    _, state, stacked = jax.lax.while_loop(
      lambda carry: (carry[0] < count) & carry[1].alive,
      body,
      (jnp.zeros((), jnp.int32), state, stacked),
    )
    return state, stacked

  return jax.jit(
    run,
    in_shardings=(whole, whole, whole),
    out_shardings=(whole, whole),
    static_argnums=(3,),
    donate_argnums=(0,),
    compiler_options=meshes.compiler_options(mesh),
  )
