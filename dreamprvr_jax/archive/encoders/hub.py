"""CLIP and SigLIP through transformers, from the hub or a folder.

The features of a frame are the model's embedding of the picture, in the space
that it shares with sentences. Those of a word are the outputs of the text
tower's last layer for its tokens.
"""

import hashlib
import pathlib
from typing import Any

import numpy as np
import safetensors
from jaxtyping import Float, UInt8

from data_pipeline.errors import DataError

DEFAULTS = {
  'clip': 'openai/clip-vit-base-patch32',
  'siglip': 'google/siglip-base-patch16-224',
}
# Longer side over the shorter one, at most, of a picture that is cropped to a
# square later.
_LONGEST = 8
# What loading is documented to raise: about files and the network, about what
# they contain, about libraries that some models need, and by torch.
_LOADING = (
  OSError,
  ValueError,
  ImportError,
  RuntimeError,
  safetensors.SafetensorError,
)
DTYPES = ('float32', 'bfloat16', 'float16')


class Hub:
  """See `Encoder`."""

  semantic = True

  def __init__(
    self,
    identity: dict[str, Any],
    model: Any,
    tokenizer: Any,
    processor: Any,
    device: str,
  ):
    """Use `load`."""
    self._identity = identity
    self.name: str = identity['name']
    self.visual_width: int = identity['visual_width']
    self.text_width: int = identity['text_width']
    self._model = model
    self._tokenizer = tokenizer
    self._processor = processor
    self._device = device

  @classmethod
  def load(
    cls,
    kind: str,
    model: str = '',
    *,
    revision: str = '',
    device: str = '',
    dtype: str = 'float32',
  ) -> 'Hub':
    """Loads a model.

    Args:
      kind: 'clip' or 'siglip'.
      model: Its name on the hub, or a folder; '' for the one in `DEFAULTS`.
      revision: Its revision on the hub; '' for the newest.
      device: The device, by torch's name; '' for an accelerator if there is
        one.
      dtype: One of `DTYPES`.

    Raises:
      DataError: If a library is missing, or the model cannot be loaded or has
        another kind.
    """
    torch, transformers = _libraries(kind)
    if dtype not in DTYPES:
      raise DataError(
        f'dtype={dtype!r} is unknown; choose one of {", ".join(DTYPES)}'
      )
    model = model or DEFAULTS[kind]
    if pathlib.Path(model).is_dir():
      model = str(pathlib.Path(model).absolute())
    where = {'revision': revision} if revision else {}
    device = device or _accelerator(torch)
    try:
      config = transformers.AutoConfig.from_pretrained(model, **where)
      if config.model_type != kind:
        raise DataError(
          f'the model {model} is of the kind {config.model_type!r}, not '
          f'{kind!r}; give one that is'
        )
      loaded = transformers.AutoModel.from_pretrained(model, **where)
      tokenizer = transformers.AutoTokenizer.from_pretrained(model, **where)
      processor = transformers.AutoImageProcessor.from_pretrained(
        model, **where
      )
      weights = _digest(loaded)
      loaded = _moved(loaded, device, getattr(torch, dtype))
    except DataError:
      raise
    except _LOADING as error:
      lines = str(error).strip().splitlines() or [type(error).__name__]
      raise DataError(
        f'the {kind} model {model} cannot be loaded ({lines[0]}); give a '
        'folder with a saved model, or a name on the hub, which needs the '
        'network the first time, and a device that exists'
      ) from error
    pooled = config.projection_dim if kind == 'clip' else None
    identity = {
      'name': kind,
      'semantic': cls.semantic,
      'model': model,
      'revision': getattr(config, '_commit_hash', None) or '',
      'weights': weights,
      'dtype': dtype,
      'visual_width': pooled or config.vision_config.hidden_size,
      'text_width': config.text_config.hidden_size,
    }
    return cls(identity, loaded, tokenizer, processor, device)

  @property
  def identity(self) -> dict[str, Any]:
    """See Encoder."""
    return self._identity

  def size(self, height: int, width: int) -> tuple[int, int]:
    """See Encoder."""
    size = self._processor.size
    edge = size.get('shortest_edge')
    if not edge:
      return int(size['height']), int(size['width'])
    scale = edge / min(height, width)
    most = _LONGEST * edge
    found = [min(max(round(x * scale), edge), most) for x in (height, width)]
    return found[0], found[1]

  def frames(
    self,
    images: UInt8[np.ndarray, 'n h w 3'],
    before: UInt8[np.ndarray, 'h w 3'] | None = None,
  ) -> Float[np.ndarray, 'n d']:
    """See Encoder."""
    del before
    import torch

    pixels = self._processor(
      images=list(images),
      return_tensors='pt',
      input_data_format='channels_last',
    )['pixel_values']
    with torch.inference_mode():
      found = self._model.get_image_features(
        pixel_values=pixels.to(self._device, self._model.dtype)
      )
    # A tensor up to transformers 4, an object with all outputs from 5 on.
    return getattr(found, 'pooler_output', found).float().cpu().numpy()

  def words(self, text: str) -> Float[np.ndarray, 'l e']:
    """See Encoder.

    The first token of CLIP, which attends to no other, is left out. SigLIP's
    last one, which represents the sentence, is kept even if it is padding.
    """
    if not text.strip():
      return np.zeros((0, self.text_width), np.float32)
    import torch

    clip = self.name == 'clip'
    tokens = self._tokenizer(
      [text],
      # SigLIP was trained on padded sentences.
      padding=not clip and 'max_length',
      truncation=True,
      max_length=self._model.config.text_config.max_position_embeddings,
      return_attention_mask=True,
      return_tensors='pt',
    )
    with torch.inference_mode():
      found = self._model.text_model(
        input_ids=tokens['input_ids'].to(self._device)
      ).last_hidden_state[0]
    rows = found.float().cpu().numpy()
    real = tokens['attention_mask'][0].numpy().astype(bool)
    real[0], real[-1] = real[0] and not clip, True
    return rows[real]


def _libraries(kind: str) -> tuple[Any, Any]:
  """Returns torch and transformers, without their log and progress bars."""
  try:
    import torch
    import transformers
  except ImportError as error:
    raise DataError(
      f'the encoder {kind!r} needs torch and transformers ({error}); install '
      "them: pip install 'dreamprvr_jax[hub]', or use --encoder=embedded"
    ) from None
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  return torch, transformers


def _moved(model: Any, device: str, dtype: Any) -> Any:
  """Returns a model on a device, in evaluation mode."""
  try:
    return model.to(device=device, dtype=dtype).eval()
  except AssertionError as error:
    # Torch raises this if it was built without this kind of device.
    raise RuntimeError(str(error)) from error


def _accelerator(torch: Any) -> str:
  if torch.cuda.is_available():
    return 'cuda'
  return 'mps' if torch.backends.mps.is_available() else 'cpu'


def _digest(model: Any) -> str:
  """Returns the digest of a model's weights."""
  hashed = hashlib.sha256()
  for name, value in sorted(model.named_parameters()):
    hashed.update(name.encode())
    hashed.update(value.detach().float().cpu().contiguous().numpy().data)
  return hashed.hexdigest()[:16]
