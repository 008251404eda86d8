"""Tiny CLIP and SigLIP folders in the hub's layout, without torch: the weights
of the goldens, with a tokenizer and settings made here."""

import json
import pathlib
import shutil

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'encoders'
# Kind -> the golden model, whose vocabulary has 99 ids and texts 16.
KINDS = {'clip': 'clip_gelu', 'siglip': 'siglip', 'siglip2': 'siglip'}
LENGTH = 16
SIDE = 32


def golden() -> dict[str, np.ndarray]:
  """Returns the golden arrays by name."""
  with np.load(GOLDEN / 'encoders_tiny.npz') as file:
    return dict(file)


def distance(found, wanted) -> float:
  """Returns the relative Frobenius distance of two arrays."""
  found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
  assert found.shape == wanted.shape
  return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def make_model(place: pathlib.Path, kind: str) -> pathlib.Path:
  """Writes a model that the encoder of a kind loads."""
  place.mkdir(parents=True)
  for name in ('config.json', 'model.safetensors'):
    shutil.copyfile(GOLDEN / KINDS[kind] / name, place / name)
  {'clip': clip_tokenizer, 'siglip': pieces, 'siglip2': gemma}[kind](place)
  settings: dict = {'size': {'height': SIDE, 'width': SIDE}, 'resample': 3}
  if kind == 'siglip2':
    settings['resample'] = 2
  if kind == 'clip':
    settings['size'] = {'shortest_edge': SIDE}
    settings['crop_size'] = {'height': SIDE, 'width': SIDE}
  write(place / 'preprocessor_config.json', settings)
  return place


def clip_tokenizer(place: pathlib.Path) -> None:
  """Writes a tokenizer.json of letters, as CLIP's."""
  from tokenizers import (
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
  )

  letters = [chr(code) for code in range(ord('a'), ord('z') + 1)]
  tokens = [*letters, *(f'{letter}</w>' for letter in letters)]
  ids = {token: i for i, token in enumerate(tokens)}
  ids |= {'<|startoftext|>': 97, '<|endoftext|>': 98}
  found = Tokenizer(
    models.BPE(
      vocab=ids,
      merges=[],
      unk_token='<|endoftext|>',
      continuing_subword_prefix='',
      end_of_word_suffix='</w>',
    )
  )
  found.normalizer = normalizers.Sequence(
    [
      normalizers.NFC(),
      normalizers.Replace(Regex(r'\s+'), ' '),
      normalizers.Lowercase(),
    ]
  )
  found.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(Regex(r'\p{L}+|[^\s\p{L}]+'), 'removed', True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  found.post_processor = processors.RobertaProcessing(
    ('<|endoftext|>', 98), ('<|startoftext|>', 97), False, False
  )
  found.save(str(place / 'tokenizer.json'))


def pieces(place: pathlib.Path) -> None:
  """Writes a tokenizer.json of pieces, as SigLIP 1's."""
  from tokenizers import Tokenizer, models, pre_tokenizers, processors

  letters = [chr(code) for code in range(ord('a'), ord('z') + 1)]
  scored = [('<unk>', 0.0), ('</s>', 0.0), ('▁', -3.0)]
  scored += [(letter, -4.0) for letter in letters] + [('▁dog', -2.0)]
  found = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=False))
  found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always')
  found.post_processor = processors.TemplateProcessing(
    single='$A </s>', special_tokens=[('</s>', 1)]
  )
  found.save(str(place / 'tokenizer.json'))
  write(place / 'tokenizer_config.json', {'pad_token': '</s>'})


def gemma(place: pathlib.Path) -> None:
  """Writes a tokenizer.json of letters, as Gemma's, which SigLIP 2 has."""
  from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

  letters = [chr(code) for code in range(ord('a'), ord('z') + 1)]
  tokens = ['<pad>', '<eos>', '<bos>', '<unk>', '▁', '!', *letters]
  found = Tokenizer(
    models.BPE(
      vocab={token: i for i, token in enumerate(tokens)},
      merges=[],
      unk_token='<unk>',
      fuse_unk=True,
    )
  )
  found.normalizer = normalizers.Replace(' ', '▁')
  found.pre_tokenizer = pre_tokenizers.Split(' ', 'merged_with_previous')
  found.add_special_tokens(['<pad>', '<eos>', '<bos>', '<unk>'])
  found.save(str(place / 'tokenizer.json'))
  settings = {
    'add_bos_token': False,
    'add_eos_token': True,
    'eos_token': {'content': '<eos>'},
    'pad_token': '<pad>',
  }
  write(place / 'tokenizer_config.json', settings)


def write(path: pathlib.Path, content: dict) -> None:
  """Writes a JSON file."""
  path.write_text(json.dumps(content), encoding='utf-8')


def change(path: pathlib.Path, **changes) -> None:
  """Changes keys of a JSON file; None removes one."""
  content = json.loads(path.read_text()) | changes
  write(path, {k: v for k, v in content.items() if v is not None})
