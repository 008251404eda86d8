"""Time of re-ranking: lists of candidates denoised by DiffusionRet's generator.

python benchmarks/reranking.py --queries=64 --candidates=100

Prints one JSON line. It has the milliseconds for a batch of queries with terms
taken out of the loop over steps and as the equations are written, the
operations of one step of each by XLA's count, and those once per list.
"""

import sys

import harness
import jax
import jax.numpy as jnp
import numpy as np
from direct_generator import run as direct_pass

from dreamprvr_jax.diffusion.sampler import sample
from dreamprvr_jax.diffusion.schedule import cosine_schedule
from dreamprvr_jax.models.generator import TextToVideoGenerator


def operations(function, *args) -> float:
  """Returns the operations of a program without loops, by XLA's count."""
  cost = jax.jit(function).lower(*args).compile().cost_analysis()
  # Older versions return a list with one entry.
  cost = cost[0] if isinstance(cost, list) else cost
  return float(cost['flops'])


def main() -> None:
  """Times both forms and prints the result."""
  parser = harness.parser(__doc__)
  parser.add_argument('--queries', type=int, default=64, help='lists at a time')
  parser.add_argument('--candidates', type=int, default=100, help='of a list')
  parser.add_argument('--tokens', type=int, default=32, help='of a video')
  parser.add_argument('--width', type=int, default=384, help='of all tokens')
  parser.add_argument(
    '--diffusion_steps', type=int, default=50, help='T of the process'
  )
  parser.add_argument('--kept', type=int, default=10, help='steps of DDIM')
  options = parser.parse_args()
  b, n, f = options.queries, options.candidates, options.tokens
  d, schedule = options.width, cosine_schedule(options.diffusion_steps)
  model = TextToVideoGenerator(d, schedule.num_steps, 1.0, 'after', 'raw', 1.0)
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.standard_normal(shape, np.float32))
  inputs = normal(b, d), normal(b, n, f, d), jnp.ones((b, n, f), bool)
  mask, x = jnp.ones((b, n), bool), normal(b, n)
  steps = jnp.zeros(b, jnp.int32)
  variables = model.init(jax.random.key(0), x, steps, *inputs, mask)

  def apart(variables, x, inputs):
    terms = model.apply(variables, *inputs, mask, method='terms')
    return sample(
      schedule,
      lambda x, step: model.apply(variables, x, step, terms, method='denoise'),
      x,
      step_inputs=model.apply(variables, method='step_terms'),
      prediction='start',
      method='ddim',
      num_steps=options.kept,
    )

  def written(variables, x, inputs):
    return sample(
      schedule,
      lambda x, step: (
        direct_pass(
          't2v', variables['params'], x, jnp.full(b, step), *inputs
        ).output
      ),
      x,
      step_inputs=jnp.arange(schedule.num_steps),
      prediction='start',
      method='ddim',
      num_steps=options.kept,
    )

  forms = {'apart': jax.jit(apart), 'written': jax.jit(written)}
  found = {name: form(variables, x, inputs) for name, form in forms.items()}
  results = {
    'largest_difference': float(
      jnp.abs(found['apart'] - found['written']).max()
    )
  }
  for name, form in forms.items():
    _, seconds = harness.timed(
      lambda form=form: form(variables, x, inputs), options.steps
    )
    results |= harness.spread(name, seconds)
  terms = jax.jit(
    lambda variables: model.apply(variables, *inputs, mask, method='terms')
  )(variables)
  table = model.apply(variables, method='step_terms')
  step = jax.tree.map(lambda leaf: leaf[0], table)
  counts = {
    'step_apart': operations(
      lambda v, x, s, t: model.apply(v, x, s, t, method='denoise'),
      variables,
      x,
      step,
      terms,
    ),
    'step_written': operations(
      lambda v, x, inputs: (
        direct_pass('t2v', v['params'], x, steps, *inputs).output
      ),
      variables,
      x,
      inputs,
    ),
    'once_per_list': operations(
      lambda v, inputs: model.apply(v, *inputs, mask, method='terms'),
      variables,
      inputs,
    ),
  }
  harness.report(
    options,
    **results,
    milliseconds_per_query=round(1000 * results['apart_seconds_median'] / b, 3),
    **{
      f'mflop_{name}': round(value / 1e6, 1) for name, value in counts.items()
    },
    fewer_operations_per_step=round(
      counts['step_written'] / counts['step_apart'], 1
    ),
    **harness.memory_gib(),
  )


if __name__ == '__main__':
  sys.exit(main())
