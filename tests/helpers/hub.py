"""Tiny CLIP and SigLIP models with random weights, saved in a folder."""

import io
import json
import pathlib

from tests.helpers.image_text import change, gemma

_SIZE = 32
_LENGTH = 20


def make_clip(place: pathlib.Path) -> pathlib.Path:
  """Writes a CLIP model with its tokenizer, whose tokens are letters."""
  import torch
  import transformers

  place.mkdir(parents=True)
  letters = [chr(code) for code in range(ord('a'), ord('z') + 1)]
  tokens = [*letters, *(f'{letter}</w>' for letter in letters)]
  tokens += ['<|startoftext|>', '<|endoftext|>']
  vocabulary = {token: i for i, token in enumerate(tokens)}
  (place / 'vocab.json').write_text(json.dumps(vocabulary))
  (place / 'merges.txt').write_text('#version: 0.2\n')
  # Up to transformers 4 the fast tokenizer has another name.
  kind = getattr(transformers, 'CLIPTokenizerFast', transformers.CLIPTokenizer)
  made = kind.from_pretrained(place, model_max_length=_LENGTH)
  made.save_pretrained(place)
  text = {
    'vocab_size': len(tokens),
    'max_position_embeddings': _LENGTH,
    'bos_token_id': len(tokens) - 2,
    'eos_token_id': len(tokens) - 1,
    **_small(16),
  }
  config = transformers.CLIPConfig(
    text_config=text, vision_config=_vision(), projection_dim=12
  )
  torch.manual_seed(0)
  transformers.CLIPModel(config).save_pretrained(place)
  _write_processor(
    place,
    'CLIPImageProcessor',
    size={'shortest_edge': _SIZE},
    do_center_crop=True,
    crop_size={'height': _SIZE, 'width': _SIZE},
  )
  return place


def make_siglip(place: pathlib.Path) -> pathlib.Path:
  """Writes a SigLIP model with its tokenizer, trained on a few sentences."""
  import sentencepiece
  import torch
  import transformers

  place.mkdir(parents=True)
  pieces = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(['a dog runs', 'two cats sleep', 'the rain'] * 9),
    model_writer=pieces,
    vocab_size=40,
    hard_vocab_limit=False,
    pad_id=-1,
    bos_id=-1,
    minloglevel=2,
  )
  (place / 'spiece.model').write_bytes(pieces.getvalue())
  made = transformers.SiglipTokenizer(
    str(place / 'spiece.model'), model_max_length=_LENGTH
  )
  made.save_pretrained(place)
  text = {
    'vocab_size': len(made) + 2,
    'max_position_embeddings': _LENGTH,
    **_small(16),
  }
  config = transformers.SiglipConfig(text_config=text, vision_config=_vision())
  torch.manual_seed(0)
  transformers.SiglipModel(config).save_pretrained(place)
  _write_processor(
    place, 'SiglipImageProcessor', size={'height': _SIZE, 'width': _SIZE}
  )
  return place


def make_siglip2(place: pathlib.Path) -> pathlib.Path:
  """Writes a SigLIP model with a tokenizer as Gemma's, of letters."""
  import torch
  import transformers

  place.mkdir(parents=True)
  gemma(place)
  change(
    place / 'tokenizer_config.json',
    tokenizer_class='PreTrainedTokenizerFast',
    eos_token='<eos>',
    model_max_length=_LENGTH,
    add_eos_token=None,
    add_bos_token=None,
  )
  # The general class reads the tokens around a text from tokenizer.json.
  rules = {
    'type': 'TemplateProcessing',
    'single': [
      {'Sequence': {'id': 'A', 'type_id': 0}},
      {'SpecialToken': {'id': '<eos>', 'type_id': 0}},
    ],
    'pair': [
      {'Sequence': {'id': 'A', 'type_id': 0}},
      {'Sequence': {'id': 'B', 'type_id': 1}},
    ],
    'special_tokens': {
      '<eos>': {'id': '<eos>', 'ids': [1], 'tokens': ['<eos>']}
    },
  }
  change(place / 'tokenizer.json', post_processor=rules)
  text = {'vocab_size': 99, 'max_position_embeddings': _LENGTH, **_small(16)}
  config = transformers.SiglipConfig(text_config=text, vision_config=_vision())
  torch.manual_seed(0)
  transformers.SiglipModel(config).save_pretrained(place)
  size = {'height': _SIZE, 'width': _SIZE}
  _write_processor(place, 'SiglipImageProcessor', size=size, resample=2)
  return place


def _small(width: int) -> dict:
  return {
    'hidden_size': width,
    'intermediate_size': 2 * width,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
  }


def _vision() -> dict:
  return {'image_size': _SIZE, 'patch_size': 16, **_small(24)}


def _write_processor(place: pathlib.Path, kind: str, **settings) -> None:
  content = {
    'image_processor_type': kind,
    'do_resize': True,
    'do_normalize': True,
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'resample': 3,
    'image_mean': [0.5, 0.5, 0.5],
    'image_std': [0.5, 0.5, 0.5],
    **settings,
  }
  (place / 'preprocessor_config.json').write_text(json.dumps(content))
