"""--mode=serve: search over HTTP, with a web page."""

import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.picture_queries import PictureQueries
from dreamprvr_jax.archive.search.text_queries import (
  TextQueries,
  TextQuery,
  open_encoder,
)
from dreamprvr_jax.archive.serving.limits import Limits
from dreamprvr_jax.archive.videos.finding import find_videos
from dreamprvr_jax.cli import console
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError

if TYPE_CHECKING:
  from dreamprvr_jax.archive.serving.contents import Contents
  from dreamprvr_jax.archive.serving.files import VideoFiles

_EXTRA = "pip install 'dreamprvr_jax[serve]' (or -e '.[serve]' in a checkout)"
# Where the token may be, so that it is not in the list of processes.
_TOKEN = 'DREAMPRVR_TOKEN'
_GIB = 2**30

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of serve; see `options.py`."""

  index: str
  checkpoint: str
  encoder: str
  device: str
  videos: str
  host: str
  port: int
  token: str | None
  no_token: bool
  cache: str
  cache_gib: float
  max_connections: int
  max_connections_per_address: int
  request_seconds: float


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Serves an index until a signal stops it."""
  if jax.process_count() > 1:
    raise UserError('--mode=serve runs as one process; start it once')
  try:
    from dreamprvr_jax.archive.serving.middleware import is_local
    from dreamprvr_jax.archive.serving.server import serve
    from dreamprvr_jax.archive.serving.service import Service
  except ModuleNotFoundError as error:
    if (error.name or '').startswith('dreamprvr_jax'):
      raise
    raise UserError(
      f'--mode=serve needs the package {error.name}, which is not installed: '
      f'{_EXTRA}'
    ) from error
  limits = _limits(arguments)
  host = arguments.host or '127.0.0.1'
  token = _token(arguments, is_local(host))
  opener = _Opener(config, arguments)
  contents = opener.open(None)
  if not len(contents):
    raise UserError(
      f'the index {arguments.index} has no videos; add some with '
      '--mode=index --append'
    )
  if not contents.answers.semantic and 'text' in contents.answers.reads:
    console.say(
      'the text encoder of the index does not understand words: it compares '
      'their spelling'
    )
  make = lambda stop: Service(
    contents,
    reopen=opener.open,
    limits=limits,
    cache=arguments.cache,
    on_failure=stop,
  )
  serve(make, host=host, port=arguments.port, token=token, say=console.say)
  return 0


class _Opener:
  """Opens the index with its encoder and files, and again after changes."""

  def __init__(self, config: ConfigDict, arguments: Arguments):
    self._config, self._arguments = config, arguments
    self._mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
    # The former and the new index share the encoder for a while.
    self._lock = threading.Lock()
    self._encoder: Encoder | None = None
    self._known: Any = None

  def open(self, former: 'Contents | None') -> 'Contents':
    """Returns the index as it is now.

    Args:
      former: The index as it was, whose retriever is used again if it is the
        same.
    """
    from dreamprvr_jax.archive.serving.answers import Answers
    from dreamprvr_jax.archive.serving.contents import Contents

    arguments = self._arguments
    retriever: Any = arguments.checkpoint
    if former:
      manifest = Manifest.read(arguments.index)
      if manifest.digest == former.index.retriever.digest:
        retriever = former.index.retriever
    index = Index.open(
      arguments.index,
      retriever,
      mesh=self._mesh,
      memory_share=self._config.eval.corpus_share,
    )
    if not self._encoder or index.retriever is not retriever:
      self._encoder = open_encoder(
        index.retriever, arguments.encoder, device=arguments.device
      )
    texts, pictures = self._queries(index, self._encoder)
    answers = Answers(index, texts, pictures, semantic=self._encoder.semantic)
    files = self._files() if index.manifest.num_videos else None
    return Contents(index, answers, files)

  def _queries(
    self, index: Index, encoder: Encoder
  ) -> tuple[
    Callable[[str], TextQuery] | None,
    Callable[[np.ndarray], np.ndarray] | None,
  ]:
    """Returns what encodes sentences and pictures; None for what the index
    cannot be searched by."""
    texts = pictures = None
    reasons = []
    try:
      sentences = TextQueries(index.retriever, encoder)
      texts = self._locked(lambda text: sentences.read(text, 'query'))
    except UserError as error:
      reasons.append(error)
    try:
      pictures = self._locked(PictureQueries(index.retriever, encoder).picture)
    except UserError as error:
      reasons.append(error)
    if not texts and not pictures:
      raise reasons[0]
    for reason in reasons if index.retriever is not self._known else ():
      _log.info('%s', reason)
    self._known = index.retriever
    return texts, pictures

  def _locked(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(given: Any) -> Any:
      with self._lock:
        return function(given)

    return call

  def _files(self) -> 'VideoFiles | None':
    """Returns the files of --videos; without it the index names them."""
    from dreamprvr_jax.archive.serving.files import VideoFiles

    folder = self._arguments.videos
    return VideoFiles(folder, find_videos(folder)) if folder else None


def _token(arguments: Arguments, local: bool) -> str:
  """Returns the token of the server, '' for none.

  Raises:
    UserError: If it is not valid, or others can reach the server without one.
  """
  from dreamprvr_jax.archive.serving.gate import SAFE_LENGTH, check_token

  if arguments.no_token:
    if arguments.token is not None:
      raise UserError(
        '--token and --no_token contradict each other; give one of them'
      )
    return ''
  given = arguments.token
  where = '--token' if given is not None else _TOKEN
  token = os.environ.get(_TOKEN, '') if given is None else given
  if token or given is not None:
    check_token(token, where)
    if len(token) < SAFE_LENGTH:
      _log.warning(
        '%s has %d signs, which can be guessed; choose %d or more, such as the '
        'output of: openssl rand -hex 16',
        where,
        len(token),
        SAFE_LENGTH,
      )
  elif not local:
    raise UserError(
      f'--host={arguments.host}: everyone who can reach this address could '
      f'search the index and watch its videos; give a secret with {_TOKEN}=... '
      'in the environment or --token=..., or say with --no_token that this is '
      'meant'
    )
  return token


def _limits(arguments: Arguments) -> Limits:
  """Returns the limits of the command line; raises UserError if one is
  invalid."""
  for name in ('max_connections', 'max_connections_per_address'):
    if getattr(arguments, name) < 1:
      raise UserError(
        f'--{name}={getattr(arguments, name)}: expected 1 or more, the number '
        'of connections that may be open'
      )
  for name, what in (
    ('request_seconds', 'the seconds that a request may take to arrive'),
    ('cache_gib', 'the GiB of converted videos that are kept'),
  ):
    value = getattr(arguments, name)
    if not 0 < value < float('inf'):
      raise UserError(f'--{name}={value}: expected more than 0, {what}')
  return Limits(
    connections=arguments.max_connections,
    address_connections=arguments.max_connections_per_address,
    header_seconds=arguments.request_seconds,
    body_seconds=arguments.request_seconds,
    converted_bytes=arguments.cache_gib * _GIB,
  )
