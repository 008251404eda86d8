"""One update, a pure function of state and batch; many in one program."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float

from dreamprvr_jax import rng
from dreamprvr_jax.devices import parallel, resident
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


def init_variables(model: Model, batch: Batch, seed: int) -> dict[str, Any]:
  """Returns the initial variables of a model; the values of `batch` play no
  part, its widths do."""
  streams = ('dropout', 'perturbation', 'registers')
  rngs = {name: rng.stream_key(seed, name) for name in streams}
  rngs['params'] = rng.stream_key(seed, 'init')
  variables = jax.jit(model.init, compiler_options=parallel.compiler_options())(
    rngs, batch
  )
  return {k: v for k, v in variables.items() if k != 'intermediates'}


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


def update(
  state: TrainState,
  batch: Batch,
  *,
  model: Model,
  objective: Objective,
  optimizer: optax.GradientTransformation,
  seed: int,
  hard_from_step: int,
) -> tuple[TrainState, Scalars]:
  """Returns the next state and the scalars of one update.

  A loss or gradient that is not finite leaves the state as it was, and so
  does every update after it: the caller may look at the scalars late and
  still finds the last good state.
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
  norm = global_norm(gradients)
  alive = state.alive & jnp.isfinite(total) & jnp.isfinite(norm)

  updates, opt_state = optimizer.update(gradients, state.opt_state, former)
  params = optax.apply_updates(former, updates)
  # Selects fuse into the update. A branch would have to be read by the host
  # on a GPU, which then stands still in every step.
  params, opt_state = jax.tree.map(
    lambda new, old: jnp.where(alive, new, old),
    (params, opt_state),
    (state.params, state.opt_state),
  )
  scalars = {
    'loss/total': total,
    **{f'loss/{name}': value for name, value in terms.items()},
    'gradient_norm': norm,
    'alive': alive,
  }
  return (
    dataclasses.replace(
      state,
      step=state.step + alive.astype(jnp.int32),
      alive=alive,
      params=params,
      opt_state=opt_state,
    ),
    scalars,
  )


def compile_update(mesh: Mesh, **parts: Any) -> TrainStep:
  """Returns `update`, jitted over the mesh; the state is donated.

  Parameters are replicated, the batch is split by row, similarities see the
  whole global batch.

  Args:
    mesh: The device mesh.
    **parts: Keyword arguments of `update`.
  """
  whole = parallel.replicated(mesh)
  return jax.jit(
    lambda state, batch: update(state, batch, **parts),
    in_shardings=(whole, parallel.by_row(mesh)),
    out_shardings=(whole, whole),
    donate_argnums=(0,),
    compiler_options=parallel.compiler_options(mesh),
  )


def compile_steps(
  mesh: Mesh, *, batch_size: int, steps_per_epoch: int, most: int, **parts: Any
) -> TrainSteps:
  """Returns a program of several updates on a split that the devices hold.

  It takes (state, split, count, slots) and makes `count` updates from the
  state's step on, all of one epoch, with `slots` caption slots each (static).
  The state is donated. It returns the state and the scalars of each update,
  stacked: zeros behind the last one, `alive` included. It ends early after an
  update that was not finite. One program serves every count.

  Args:
    mesh: The device mesh.
    batch_size: Videos of a batch.
    steps_per_epoch: Updates of an epoch.
    most: No count is greater; the length of the stacked scalars.
    **parts: Keyword arguments of `update`.
  """
  whole = parallel.replicated(mesh)

  # Jitted for its own sake: traced once for the shapes and the loop.
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
    compiler_options=parallel.compiler_options(mesh),
  )
