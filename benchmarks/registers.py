"""Time of register sampling: the diffusion loop, alone and in the encoder.

python benchmarks/registers.py --dataset=activitynet

Prints one JSON line: milliseconds for a batch of videos of generating the
registers (sampler, condition, all denoising steps), of the whole video
encoder, and the share of the first in the second.
"""

import sys

import harness
import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.models.template import blank_batch


def main() -> None:
  """Times both parts, prints the result."""
  parser = harness.parser(__doc__)
  parser.add_argument('--batch', type=int, default=128, help='videos')
  options = parser.parse_args()
  config = harness.config_of(options)
  sizes = harness.DATASETS[options.dataset]
  model = harness.build(config)
  blank = blank_batch(
    sizes.visual,
    sizes.text,
    num_clips=config.data.num_clips,
    max_frames=config.data.max_frames,
    max_words=config.data.max_words,
  )
  variables = jax.jit(model.init)(jax.random.key(0), blank)
  clips = jnp.asarray(
    np.random.default_rng(0).standard_normal(
      (options.batch, config.data.num_clips, config.model.width), np.float32
    )
  )
  generate = jax.jit(
    lambda variables, clips: model.apply(
      variables,
      clips,
      method=lambda model, x: model.registers(x, train=False).tokens,
    )
  )
  batch = harness.made_batch(config, sizes, options.batch, 16)
  videos = jax.device_put(
    (batch.clip_features, batch.frame_features, batch.frame_mask)
  )
  encode = jax.jit(
    lambda variables, videos: model.apply(
      variables, *videos, method=DreamPRVR.encode_video
    )
  )
  _, alone = harness.timed(lambda: generate(variables, clips), options.steps)
  _, whole = harness.timed(lambda: encode(variables, videos), options.steps)
  harness.report(
    options,
    registers=config.model.num_registers,
    diffusion_steps=config.model.diffusion_steps,
    **harness.spread('registers', alone),
    **harness.spread('encoder', whole),
    videos_per_second=round(options.batch / float(np.median(whole)), 1),
    share_of_encoder=round(float(np.median(alone) / np.median(whole)), 3),
    **harness.memory_gib(),
  )


if __name__ == '__main__':
  sys.exit(main())
