"""Speed of the image encoders: pictures per second.

python benchmarks/encoders.py --encoder=siglip2 --size=base
python benchmarks/encoders.py --encoder=clip --size=base --rival

The picture tower with random weights, from prepared pictures in the host's
memory to vectors in the host's memory. Prints one JSON line: pictures per
second, FLOPs of the products and their share of a product's peak measured in
the same run, milliseconds in which Pillow prepares a 720p picture; memory.
`--rival` also runs the same weights in transformers, on the CPU with all its
threads, and says how far its vectors are from ours (needs the extra bench).
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import harness
import jax
import numpy as np

from dreamprvr_jax.archive.encoders import image_text
from dreamprvr_jax.archive.encoders.architecture import (
  NETWORKS,
  Architecture,
  Vision,
)
from dreamprvr_jax.archive.encoders.pictures import Preparation
from dreamprvr_jax.archive.encoders.weights import Weights

# Width, hidden width, layers, heads, patch and picture of the published models.
SIZES = {
  ('clip', 'base'): (768, 3072, 12, 12, 32, 224),
  ('clip', 'large'): (1024, 4096, 24, 16, 14, 224),
  ('siglip', 'base'): (768, 3072, 12, 12, 16, 224),
  ('siglip', 'so400m'): (1152, 4304, 27, 16, 14, 384),
  # Not published: to try the command.
  ('siglip', 'toy'): (32, 64, 1, 2, 8, 16),
}
_KEYS = (
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'patch_size',
  'image_size',
)


@dataclasses.dataclass
class Random:
  """Weights without a file: small random numbers."""

  scale: float = 0.02

  def tree(self, shapes: Any, dtype: np.dtype, place: Any) -> Any:
    """See `Weights`."""
    rng = np.random.default_rng(0)
    make = lambda shape: rng.standard_normal(shape, np.float32) * self.scale
    return jax.tree.map(lambda x: place(make(x.shape).astype(dtype)), shapes)


def made(
  options: Any, weights: Any, folder: pathlib.Path
) -> image_text.ImageText:
  """Returns the encoder of the options; it has no tokenizer."""
  network = NETWORKS[options.encoder]
  architecture = Architecture.read(folder, options.encoder)
  settings = image_text.Settings.of('', options.dtype, options.batch)
  identity = {
    'name': options.encoder,
    'visual_width': architecture.vision.output,
    'text_width': architecture.text.layers.width,
  }
  preparation = Preparation.read(folder, network)
  tokens: Any = None
  return image_text.ImageText(
    identity, architecture, weights, tokens, preparation, settings
  )


def write_settings(options: Any, folder: pathlib.Path) -> None:
  """Writes the files that say how large the model is."""
  network = NETWORKS[options.encoder]
  vision = dict(zip(_KEYS, SIZES[network, options.size], strict=True))
  config = {'model_type': network, 'vision_config': vision}
  (folder / 'config.json').write_text(json.dumps(config))
  side = vision['image_size']
  size = {'height': side, 'width': side}
  picture = {'size': size, 'crop_size': size, 'do_center_crop': False}
  (folder / 'preprocessor_config.json').write_text(json.dumps(picture))


def rival(options: Any, shape: Vision, folder: pathlib.Path) -> Any:
  """Writes a model of transformers to a folder and returns it."""
  import torch
  import transformers

  network = NETWORKS[options.encoder]
  sizes = dict(zip(_KEYS, SIZES[network, options.size], strict=True))
  torch.manual_seed(0)
  # Only the picture tower is timed.
  text = {'num_hidden_layers': 1, 'vocab_size': 100}
  if network == 'clip':
    model: Any = transformers.CLIPModel(
      transformers.CLIPConfig(
        text_config=text, vision_config=sizes, projection_dim=shape.output
      )
    )
  else:
    model = transformers.SiglipModel(
      transformers.SiglipConfig(text_config=text, vision_config=sizes)
    )
  model.save_pretrained(folder)
  return model.eval()


def timed_rival(
  model: Any, pixels: np.ndarray, repeats: int
) -> tuple[list[float], np.ndarray]:
  """Returns the seconds of each batch in transformers, and its vectors."""
  import torch

  inputs = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
  seconds, vectors = [], np.zeros(0)
  with torch.inference_mode():
    for _ in range(repeats + 1):
      began = time.perf_counter()
      found = model.get_image_features(pixel_values=inputs)
      # A tensor up to transformers 4, an object with all outputs from 5 on.
      vectors = getattr(found, 'pooler_output', found).numpy()
      seconds.append(time.perf_counter() - began)
  return seconds[1:], vectors


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  parser = harness.parser(__doc__ or '')
  parser.add_argument('--encoder', default='siglip2', choices=NETWORKS)
  parser.add_argument('--size', default='base', help='base, large or so400m')
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--rival', action='store_true', help='also transformers')
  options = parser.parse_args(arguments)
  if (NETWORKS[options.encoder], options.size) not in SIZES:
    parser.error(f'--encoder={options.encoder} has no --size={options.size}')
  return options


def figures(options: argparse.Namespace) -> dict[str, Any]:
  """Builds the encoder and returns its results."""
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    write_settings(options, folder)
    encoder = made(options, Random(), folder)
    shape, theirs = encoder._architecture.vision, None
    if options.rival:
      (folder / 'rival').mkdir()
      theirs = rival(options, shape, folder / 'rival')
      encoder = made(options, Weights(folder / 'rival'), folder)
    return measured(options, encoder, theirs)


def main() -> None:
  """Prints the results."""
  options = parsed()
  harness.report(options, **figures(options))


def measured(
  options: Any, encoder: image_text.ImageText, theirs: Any
) -> dict[str, Any]:
  """Returns the results."""
  preparation, shape = encoder._preparation, encoder._architecture.vision
  rng = np.random.default_rng(0)
  frame = rng.integers(0, 256, (720, 1280, 3), np.uint8)
  prepared = encoder.prepare(frame)
  began = time.perf_counter()
  for _ in range(options.steps):
    encoder.prepare(frame)
  prepare = (time.perf_counter() - began) / options.steps
  images = np.stack([np.roll(prepared, i, 0) for i in range(encoder.batch)])
  first, seconds = harness.timed(lambda: encoder.frames(images), options.steps)
  tower = image_text._towers(encoder._architecture)[1]
  params = {'params': image_text._shapes(tower)}
  pixels = jax.ShapeDtypeStruct((*images.shape[:3], 3), np.float32)
  flops = harness.product_flops(tower.apply, params, pixels)
  # The products that measure the peak take memory, too.
  used = harness.memory_gib()
  peak = harness.peak_of(options)
  median = statistics.median(seconds)
  results = {
    'pictures_of_a_batch': len(images),
    'side': shape.side,
    'compilation_seconds': round(first, 1),
    **harness.spread('batch', seconds),
    'pictures_per_second': round(len(images) / median, 2),
    'gflop_per_picture': round(flops / len(images) / 1e9, 2),
    'peak_tflop_per_second': round(peak / 1e12, 4),
    'share_of_peak': round(flops / median / peak, 3),
    'prepare_720p_ms': round(1000 * prepare, 2),
    **used,
  }
  if theirs is not None:
    normal = preparation.normal(images)
    others, vectors = timed_rival(theirs, normal, options.steps)
    found = encoder.frames(images)
    results |= {
      **harness.spread('transformers_batch', others),
      'transformers_pictures_per_second': round(
        len(images) / statistics.median(others), 2
      ),
      'relative_distance': float(
        f'{np.linalg.norm(found - vectors) / np.linalg.norm(vectors):.2g}'
      ),
    }
  return results


if __name__ == '__main__':
  main()
