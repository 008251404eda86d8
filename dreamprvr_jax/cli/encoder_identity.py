"""The encoder that made the features of a corpus or of a checkpoint."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.corpus import Corpus, Split
from data_pipeline.errors import DataError
from dreamprvr_jax import text
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import PLACES


def identity_of(corpus: Corpus | Split) -> dict[str, Any] | None:
  """Returns the identity of the encoder that --mode=extract used; None if the
  features have another origin.

  Raises:
    DataError, TextError: If the file with the identity is damaged.
  """
  path = corpus.options.folder / 'encoder.json'
  if not path.exists():
    return None
  found = text.parse_json(text.read(path), str(path))
  widths = tuple(
    found.get(key) if isinstance(found, dict) else None
    for key in ('visual_width', 'text_width')
  )
  if not all(isinstance(width, int) for width in widths):
    raise DataError(
      f'{path} does not describe an encoder: it says no visual_width and '
      'text_width; extract again'
    )
  # The folder may hold other features next to the extracted ones.
  text_width = corpus.text_width or widths[1]
  return found if widths == (corpus.visual_width, text_width) else None


def differences(
  wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> list[str]:
  """Returns in which keys two encoders differ, apart from where they were
  found."""
  return [
    f'{key}: {wanted.get(key)!r} there, {found.get(key)!r} here'
    for key in sorted(wanted.keys() | found.keys())
    if wanted.get(key) != found.get(key) and key not in PLACES
  ]


def check_encoder(
  stored: dict[str, Any], corpus: Corpus | Split, checkpoint: str
) -> None:
  """Refuses features of another encoder than the checkpoint's, if both are
  known.

  Raises:
    UserError: If they differ; it says how.
  """
  wanted, found = stored.get('encoder'), identity_of(corpus)
  if not wanted or not found:
    return
  differ = differences(wanted, found)
  if differ:
    raise UserError(
      f'{checkpoint} was trained on features of another encoder than those in '
      f'{corpus.options.folder} ({"; ".join(differ)}); extract these again '
      'with the encoder of the checkpoint'
    )
