"""The sizes of a CLIP or SigLIP model, from its config.json.

Keys that are missing have the defaults of transformers' CLIPTextConfig,
CLIPVisionConfig, SiglipTextConfig and SiglipVisionConfig.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from data_pipeline.errors import DataError

_CLIP = {
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
  'num_hidden_layers': 12,
}
_SIGLIP = {
  'hidden_act': 'gelu_pytorch_tanh',
  'layer_norm_eps': 1e-6,
  'num_hidden_layers': 12,
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_attention_heads': 12,
}
_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
  'clip': {
    'text': {
      **_CLIP,
      'vocab_size': 49408,
      'hidden_size': 512,
      'intermediate_size': 2048,
      'num_attention_heads': 8,
      'max_position_embeddings': 77,
      'eos_token_id': 49407,
    },
    'vision': {
      **_CLIP,
      'hidden_size': 768,
      'intermediate_size': 3072,
      'num_attention_heads': 12,
      'image_size': 224,
      'patch_size': 32,
    },
  },
  'siglip': {
    'text': {**_SIGLIP, 'vocab_size': 32000, 'max_position_embeddings': 64},
    'vision': {**_SIGLIP, 'image_size': 224, 'patch_size': 16},
  },
}
_PROJECTION = 512
ACTIVATIONS = ('quick_gelu', 'gelu', 'gelu_pytorch_tanh')
# Encoder by name -> its network, which is the config's `model_type`.
NETWORKS = {'clip': 'clip', 'siglip': 'siglip', 'siglip2': 'siglip'}


@dataclasses.dataclass(frozen=True)
class Layers:
  """The layers of a tower.

  Attributes:
    width: Numbers of a token.
    hidden: Numbers of the layer between the two maps of an MLP.
    count: Number of layers.
    heads: Heads of the attention.
    activation: One of `ACTIVATIONS`.
    epsilon: Added to the variance by layer norms.
  """

  width: int
  hidden: int
  count: int
  heads: int
  activation: str
  epsilon: float


@dataclasses.dataclass(frozen=True)
class Text:
  """The text tower.

  Attributes:
    layers: Its layers.
    vocabulary: Number of token ids.
    positions: Tokens of a text, at most.
    end: Id of the token at the end of a text; CLIP's vector is that of this
      token.
    output: Numbers of a sentence's vector.
  """

  layers: Layers
  vocabulary: int
  positions: int
  end: int
  output: int


@dataclasses.dataclass(frozen=True)
class Vision:
  """The picture tower.

  Attributes:
    layers: Its layers.
    side: Pixels of a picture's edge.
    patch: Pixels of a patch's edge.
    output: Numbers of a picture's vector.
  """

  layers: Layers
  side: int
  patch: int
  output: int


@dataclasses.dataclass(frozen=True)
class Architecture:
  """A model: its network ('clip' or 'siglip') and both towers."""

  network: str
  text: Text
  vision: Vision

  @classmethod
  def read(cls, folder: pathlib.Path, encoder: str) -> 'Architecture':
    """Returns the architecture of a model's folder.

    Args:
      folder: A folder in the hub's layout.
      encoder: The encoder that it should be, a key of `NETWORKS`.

    Raises:
      DataError: If config.json is missing or damaged, or is of a model that
        this encoder, or none, can use.
    """
    path = folder / 'config.json'
    config = read_object(path)
    network = str(config.get('model_type'))
    if network not in _DEFAULTS:
      raise DataError(
        f'{path} is of a model of the architecture {network!r}; those that '
        'work are clip, and siglip, which SigLIP 2 at a fixed resolution has '
        '(not its naflex form), such as google/siglip2-base-patch16-224'
      )
    if network != NETWORKS[encoder]:
      raise DataError(
        f'{path} is of a model of the kind {network!r}, not {encoder!r}; name '
        f'it --encoder={network}:MODEL'
      )
    text, vision = (
      {
        **_DEFAULTS[network][part],
        **_section(config, f'{part}_config', path),
        # Old files have these keys, which win.
        **_section(config, f'{part}_config_dict', path),
      }
      for part in ('text', 'vision')
    )
    try:
      return _made(network, config, text, vision)
    except (TypeError, ValueError) as error:
      raise DataError(
        f'{path} has a key with an unusable value ({error}); download the '
        'model again'
      ) from None


def _made(
  network: str,
  config: Mapping[str, Any],
  text: Mapping[str, Any],
  vision: Mapping[str, Any],
) -> Architecture:
  """Returns the architecture.

  Raises:
    TypeError, ValueError: If a value is unusable.
  """
  widths = (text['hidden_size'], vision['hidden_size'])
  if network == 'clip':
    # A null is no number, as in files that leave it to the class.
    projection = config.get('projection_dim') or _PROJECTION
    outputs = (projection, projection)
  else:
    outputs = (text.get('projection_size') or widths[0], widths[1])
  side, patch = _number(vision, 'image_size'), _number(vision, 'patch_size')
  if side < patch:
    raise ValueError(f'image_size={side} is below patch_size={patch}')
  if vision.get('vision_use_head') is False:
    raise ValueError('vision_use_head=false leaves no vector of a picture')
  end = text.get('eos_token_id', 1)
  return Architecture(
    network,
    Text(
      _layers(text),
      _number(text, 'vocab_size'),
      _number(text, 'max_position_embeddings'),
      end[0] if isinstance(end, list) else int(end or 0),
      int(outputs[0]),
    ),
    Vision(_layers(vision), side, patch, int(outputs[1])),
  )


def _layers(section: Mapping[str, Any]) -> Layers:
  width, heads = (
    _number(section, 'hidden_size'),
    _number(section, 'num_attention_heads'),
  )
  if width % heads:
    raise ValueError(f'{heads} heads do not divide hidden_size={width}')
  activation = section['hidden_act']
  if activation not in ACTIVATIONS:
    raise ValueError(
      f'hidden_act={activation!r}; known are {", ".join(ACTIVATIONS)}'
    )
  return Layers(
    width,
    _number(section, 'intermediate_size'),
    _number(section, 'num_hidden_layers'),
    heads,
    activation,
    float(section['layer_norm_eps']),
  )


def _number(section: Mapping[str, Any], key: str) -> int:
  value = section[key]
  if isinstance(value, list) and len(set(value)) == 1:
    value = value[0]
  if not isinstance(value, int) or value < 1:
    raise ValueError(f'{key}={value!r} is no whole number above 0')
  return value


def _section(
  config: Mapping[str, Any], key: str, path: pathlib.Path
) -> dict[str, Any]:
  found = config.get(key) or {}
  if not isinstance(found, dict):
    raise DataError(f'{path}: {key} is no object; download the model again')
  return found


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Returns the object in a JSON file of a model.

  Raises:
    DataError: If the file is missing or has no JSON object.
  """
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except OSError as error:
    raise DataError(
      f'{path} cannot be read ({error.strerror}); a model is a folder in the '
      "hub's layout, with config.json, model.safetensors, tokenizer.json and "
      'preprocessor_config.json'
    ) from None
  except ValueError as error:
    raise DataError(
      f'{path} is no JSON ({error}); download the model again'
    ) from None
  if not isinstance(found, dict):
    raise DataError(f'{path} has no JSON object; download the model again')
  return found
