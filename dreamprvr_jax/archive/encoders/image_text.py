"""CLIP, SigLIP and SigLIP 2 on the devices of JAX.

The features of a frame are the model's vector of the picture, in the space that
it shares with sentences, as the tower gives it: not of unit length. Those of a
word are the outputs of the text tower's last layer for its tokens.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders import hub
from dreamprvr_jax.archive.encoders.architecture import Architecture
from dreamprvr_jax.archive.encoders.clip import ClipText, ClipVision
from dreamprvr_jax.archive.encoders.pictures import Preparation
from dreamprvr_jax.archive.encoders.siglip import SiglipText, SiglipVision
from dreamprvr_jax.archive.encoders.tokens import Tokens
from dreamprvr_jax.archive.encoders.weights import Weights, expected
from dreamprvr_jax.devices import meshes

DEFAULTS = {
  'clip': 'openai/clip-vit-base-patch32',
  'siglip': 'google/siglip-base-patch16-224',
  'siglip2': 'google/siglip2-base-patch16-224',
}
DTYPES = ('float32', 'bfloat16')
# Pictures that each device encodes at a time, if nothing else is asked for.
BATCH = 32
# The numbers of `calibration`, and their shapes.
_SCALES: dict[str, dict[str, tuple[int, ...]]] = {
  'clip': {'logit_scale': ()},
  'siglip': {'logit_scale': (1,), 'logit_bias': (1,)},
}
_TOWERS = {
  'clip': (ClipText, ClipVision),
  'siglip': (SiglipText, SiglipVision),
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Where and how a model computes.

  Attributes:
    mesh: The devices, over which the pictures of a batch are split.
    dtype: One of `DTYPES`, for pictures. Sentences are short and few, and an
      error in one counts for every picture, so they are always float32.
    batch: Pictures that are encoded at a time; rounded up to a multiple of the
      devices.
  """

  mesh: Mesh
  dtype: str
  batch: int

  @classmethod
  def of(cls, device: str, dtype: str, batch: int) -> 'Settings':
    """Returns the settings of `encoders.build`.

    Raises:
      DataError: If the device or the type is unknown.
    """
    if dtype not in DTYPES:
      raise DataError(
        f'dtype={dtype!r} is unknown; choose one of {", ".join(DTYPES)}'
      )
    try:
      mesh = meshes.local_mesh(device)
    except RuntimeError as error:
      lines = str(error).splitlines()
      raise DataError(
        f'there is no device {device!r} ({lines[0]}); give cpu, gpu or tpu, or '
        'leave --device out'
      ) from None
    batch = batch or BATCH * mesh.size
    return cls(mesh, dtype, -(-batch // mesh.size) * mesh.size)


class ImageText:
  """See `Encoder`."""

  semantic = True
  shared = True
  on_device = True

  def __init__(
    self,
    identity: dict[str, Any],
    architecture: Architecture,
    weights: Weights,
    tokens: Tokens,
    preparation: Preparation,
    settings: Settings,
  ):
    """Use `load`."""
    self._identity = identity
    self.name: str = identity['name']
    self.visual_width: int = identity['visual_width']
    self.text_width: int = identity['text_width']
    self.batch = settings.batch
    # They carry no weights to other processes.
    self.size = preparation.size
    self.prepare = preparation.prepare
    self._architecture = architecture
    self._weights = weights
    self._tokens = tokens
    self._preparation = preparation
    self._settings = settings
    self._last: tuple[str, tuple[np.ndarray, ...]] | None = None

  @classmethod
  def load(
    cls,
    name: str,
    model: str = '',
    *,
    revision: str = '',
    device: str = '',
    dtype: str = 'float32',
    batch: int = 0,
  ) -> 'ImageText':
    """Loads a model; a tower's weights go to the devices when it is first used.

    Args:
      name: 'clip', 'siglip' or 'siglip2'.
      model: Its name on the hub, or a folder; '' for the one in `DEFAULTS`.
      revision: Its revision on the hub; '' for the newest.
      device: Platform of JAX, such as 'cpu'; '' for the best one.
      dtype: One of `DTYPES`.
      batch: Pictures that are encoded at a time; 0 for `BATCH` a device.

    Raises:
      DataError: If a library is missing, or the model cannot be loaded or has
        another architecture.
    """
    settings = Settings.of(device, dtype, batch)
    model = model or DEFAULTS[name]
    folder, commit = hub.fetch(model, revision)
    architecture = Architecture.read(folder, name)
    weights = Weights(folder)
    shapes = [_shapes(tower) for tower in _towers(architecture)]
    weights.check({**expected(shapes), **_SCALES[architecture.network]})
    preparation = Preparation.read(folder, architecture.network)
    if preparation.side != architecture.vision.side:
      raise DataError(
        f'{folder} prepares pictures of {preparation.side} pixels, but its '
        f'model takes {architecture.vision.side}; download the model again'
      )
    identity = {
      'name': name,
      'semantic': cls.semantic,
      'model': model if commit else str(folder),
      'revision': commit,
      'weights': weights.digest(),
      'dtype': dtype,
      'visual_width': architecture.vision.output,
      'text_width': architecture.text.layers.width,
    }
    tokens = Tokens.read(folder, architecture)
    return cls(identity, architecture, weights, tokens, preparation, settings)

  @property
  def identity(self) -> dict[str, Any]:
    """See Encoder."""
    return self._identity

  @property
  def calibration(self) -> tuple[float, float]:
    """The (scale, bias) with which the model was trained: a cosine times the
    scale, plus the bias, is a logit. Of SigLIP, its sigmoid is the probability
    that picture and sentence belong together; CLIP's bias is 0."""
    read = lambda name: float(self._weights.read(name).ravel()[0])
    bias = 0.0 if self._architecture.network == 'clip' else read('logit_bias')
    return float(np.exp(read('logit_scale'))), bias

  def frames(
    self,
    images: UInt8[np.ndarray, 'n s t 3'],
    before: UInt8[np.ndarray, 's t 3'] | None = None,
  ) -> Float[np.ndarray, 'n d']:
    """See Encoder. A picture's features do not depend on the others."""
    del before
    return self._encoded(iter([images]))

  def pictures(
    self, images: Sequence[UInt8[np.ndarray, 'h w 3']]
  ) -> Float[np.ndarray, 'n d']:
    """See Encoder."""
    few = self.batch
    return self._encoded(
      np.stack([self.prepare(image) for image in images[start : start + few]])
      for start in range(0, len(images), few)
    )

  def words(self, text: str) -> Float[np.ndarray, 'l e']:
    """See Encoder.

    The first token of CLIP, which attends to no other, is left out. SigLIP's
    last one, which represents the sentence, is kept even if it is padding.
    """
    if not text.strip():
      return np.zeros((0, self.text_width), np.float32)
    hidden, _, real = self._text(text)
    kept = real[0].copy()
    kept[-1] |= self._architecture.network == 'siglip'
    kept[0] &= self._architecture.network == 'siglip'
    return hidden[0][kept]

  def sentence(self, text: str) -> Float[np.ndarray, ' d']:
    """See Encoder."""
    if not text.strip():
      raise DataError('the sentence has no text; write what to look for')
    pooled = self._text(text)[1][0]
    return pooled / np.linalg.norm(pooled)

  def _encoded(
    self, batches: Iterator[UInt8[np.ndarray, 'n s s 3']]
  ) -> Float[np.ndarray, 'n d']:
    rows = [np.zeros((0, self.visual_width), np.float32)]
    for images in batches:
      for start in range(0, len(images), self.batch):
        few = images[start : start + self.batch]
        # Two sizes, so that a single picture does not take a batch's time.
        least = self._settings.mesh.size
        size = least if len(few) <= least else self.batch
        padded = np.zeros((size, *few.shape[1:]), np.uint8)
        padded[: len(few)] = few
        found = np.asarray(self._see(padded))[: len(few)]
        rows.append(found)
    return np.concatenate(rows)

  def _text(self, text: str) -> tuple[np.ndarray, ...]:
    """Returns the tokens' outputs, the vector and which tokens are real; keeps
    them, as words and sentence are asked for one after the other."""
    last = self._last
    if last is None or last[0] != text:
      ids, real = self._tokens(text)
      hidden, pooled = self._read(ids, real)
      last = text, (np.asarray(hidden), np.asarray(pooled), real)
      # Another thread may have stored its own meanwhile.
      self._last = last
    return last[1]

  @functools.cached_property
  def _see(self) -> Callable[[np.ndarray], jax.Array]:
    """Returns the vectors of prepared pictures."""
    mesh, dtype = self._settings.mesh, self._settings.dtype
    tower = _towers(self._architecture)[1]
    # Accelerators would multiply float32 in fewer digits.
    precision = 'highest' if dtype == 'float32' else 'default'
    by_row, whole = meshes.by_row(mesh), meshes.replicated(mesh)

    def see(params: Any, images: jax.Array) -> jax.Array:
      pixels = self._preparation.normal(images)
      with jax.default_matmul_precision(precision):
        return tower.apply({'params': params}, pixels)[1]

    program = jax.jit(
      see,
      in_shardings=(whole, by_row),
      out_shardings=by_row,
      compiler_options=meshes.compiler_options(mesh),
    )
    params = self._params(tower, dtype)
    return lambda images: program(params, jax.device_put(images, by_row))

  @functools.cached_property
  def _read(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns all tokens and the vectors of texts."""
    tower, mesh = _towers(self._architecture)[0], self._settings.mesh
    whole = meshes.replicated(mesh)

    def read(params: Any, *inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
      with jax.default_matmul_precision('highest'):
        return tower.apply({'params': params}, *inputs)

    program = jax.jit(
      read,
      out_shardings=whole,
      compiler_options=meshes.compiler_options(mesh),
    )
    params = self._params(tower, 'float32')
    return lambda *inputs: program(params, *jax.device_put(inputs, whole))

  def _params(self, tower: Any, dtype: str) -> Any:
    whole = meshes.replicated(self._settings.mesh)
    place = lambda value: jax.device_put(value, whole)
    return self._weights.tree(_shapes(tower), jnp.dtype(dtype), place)


def _towers(architecture: Architecture) -> tuple[Any, Any]:
  """Returns the modules of the text and the picture tower."""
  text, vision = _TOWERS[architecture.network]
  return text(architecture.text), vision(architecture.vision)


def _shapes(tower: Any) -> Any:
  """Returns the tree of shapes of a tower's parameters."""
  shape = tower.shape
  if isinstance(tower, (ClipText, SiglipText)):
    ids = jnp.zeros((1, shape.positions), jnp.int32)
    inputs = (ids, ids > 0)
  else:
    inputs = (jnp.zeros((1, shape.side, shape.side, 3)),)
  return jax.eval_shape(tower.init, jax.random.key(0), *inputs)['params']
