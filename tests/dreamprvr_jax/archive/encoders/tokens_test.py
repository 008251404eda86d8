"""Token ids: cut, padded and cleaned as the hub's tokenizers do it."""

import concurrent.futures
import io
import logging

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.architecture import Architecture
from dreamprvr_jax.archive.encoders.tokens import Tokens, canonical
from tests.helpers.image_text import GOLDEN, KINDS, LENGTH, change, make_model

tokenizers = pytest.importorskip(
  'tokenizers', reason='the extra hub is not installed'
)


def read(place, kind):
  architecture = Architecture.read(place, kind)
  return Tokens.read(place, architecture)


def ids_of(tokens, text):
  """Returns the ids that are no padding, after checking the rest."""
  ids, real = tokens(text)
  assert ids.shape == real.shape == (1, LENGTH)
  count = int(real.sum())
  assert real[0, :count].all()
  assert len(set(ids[0, count:])) <= 1
  return ids[0, :count].tolist()


def letters(text, first):
  return [first + ord(letter) - ord('a') for letter in text]


def test_clip(tmp_path):
  tokens = read(make_model(tmp_path / 'm', 'clip'), 'clip')
  # Letters at the end of a word have other ids.
  assert ids_of(tokens, 'Ab  C') == [97, 0, 27, 28, 98]
  assert tokens('ab')[0][0, -1] == 98
  long = ids_of(tokens, 'abc ' * 30)
  hub = tokenizers.Tokenizer.from_file(str(tmp_path / 'm' / 'tokenizer.json'))
  hub.enable_truncation(LENGTH)
  assert long == hub.encode('abc ' * 30).ids
  assert (len(long), long[0], long[-1]) == (LENGTH, 97, 98)


def test_siglip(tmp_path):
  tokens = read(make_model(tmp_path / 'm', 'siglip'), 'siglip')
  # Without capitals and punctuation; the end is also the padding.
  assert ids_of(tokens, 'A "dog"!') == ids_of(tokens, 'a dog') == [2, 3, 29, 1]
  assert tokens('a')[0][0, -1] == 1
  long = ids_of(tokens, 'abc ' * 30)
  assert (len(long), long[-1]) == (LENGTH, 1)
  assert ids_of(tokens, '!!') == [1]


def test_siglip2(tmp_path):
  tokens = read(make_model(tmp_path / 'm', 'siglip2'), 'siglip2')
  # Lower case, with punctuation; padded with 0.
  assert ids_of(tokens, 'A dog!') == [6, 4, *letters('dog', 6), 5, 1]
  assert tokens('a')[0][0, -1] == 0
  long = ids_of(tokens, 'abc ' * 30)
  assert (len(long), long[-1]) == (LENGTH, 1)


def test_settings_say_which_tokens_are_around_a_text(tmp_path):
  place = make_model(tmp_path / 'm', 'siglip2')
  change(place / 'tokenizer_config.json', add_bos_token=True)
  assert ids_of(read(place, 'siglip2'), 'a') == [2, 6, 1]
  change(place / 'tokenizer_config.json', add_eos_token=False)
  assert ids_of(read(place, 'siglip2'), 'a') == [2, 6]
  change(place / 'tokenizer_config.json', padding_side='left')
  ids, real = read(place, 'siglip2')('a')
  assert ids[0, -2:].tolist() == [2, 6]
  assert real[0].tolist() == [False] * (LENGTH - 2) + [True] * 2


def test_a_sentencepiece_model(tmp_path):
  library = pytest.importorskip('sentencepiece')
  written = io.BytesIO()
  library.SentencePieceTrainer.train(
    sentence_iterator=iter(['a dog runs', 'two cats sleep', 'the rain'] * 9),
    model_writer=written,
    vocab_size=40,
    hard_vocab_limit=False,
    pad_id=-1,
    bos_id=-1,
    eos_id=1,
    unk_id=2,
    minloglevel=2,
  )
  place = make_model(tmp_path / 'm', 'siglip')
  (place / 'tokenizer.json').unlink()
  (place / 'spiece.model').write_bytes(written.getvalue())
  tokens = read(place, 'siglip')
  model = library.SentencePieceProcessor(model_proto=written.getvalue())
  found = ids_of(tokens, 'A dog, runs.')
  assert found == [*model.encode('a dog runs'), 1]
  long = ids_of(tokens, 'a dog runs ' * 30)
  assert long == [*model.encode('a dog runs ' * 30)[: LENGTH - 1], 1]
  (place / 'spiece.model').write_bytes(b'damaged')
  with pytest.raises(DataError, match=r'spiece.model cannot be read'):
    read(place, 'siglip')


def test_many_threads(tmp_path):
  tokens = read(make_model(tmp_path / 'm', 'clip'), 'clip')
  texts = ['ab ' * (1 + i % 9) for i in range(400)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(tokens, texts))
  for text, (ids, _) in zip(texts, found, strict=True):
    np.testing.assert_array_equal(ids, tokens(text)[0])


def test_a_cut_is_told_once(tmp_path, caplog):
  tokens = read(make_model(tmp_path / 'm', 'clip'), 'clip')
  with caplog.at_level(logging.WARNING):
    tokens('ab')
    assert not caplog.messages
    tokens('abc ' * 30)
    tokens('abc ' * 30)
  (message,) = caplog.messages
  assert 'longer than the 16 tokens' in message


@pytest.mark.parametrize('kind', KINDS)
def test_files_that_cannot_be(kind, tmp_path):
  place = make_model(tmp_path / 'm', kind)
  change(place / 'tokenizer.json', model={'type': 'unheard of'})
  with pytest.raises(DataError, match=r'tokenizer.json cannot be read'):
    read(place, kind)


def test_a_token_that_is_not_there(tmp_path):
  place = make_model(tmp_path / 'm', 'siglip2')
  change(place / 'tokenizer_config.json', pad_token='<none>')
  with pytest.raises(DataError, match='no pad_token <none>'):
    read(place, 'siglip2')


def test_canonical_text():
  assert canonical('  It\'s A\tDOG,\n"really" ½ É ') == 'its a dog really ½ é'


def test_a_folder_without_a_tokenizer():
  with pytest.raises(DataError, match=r'tokenizer.json cannot be read'):
    read(GOLDEN / 'siglip', 'siglip')
