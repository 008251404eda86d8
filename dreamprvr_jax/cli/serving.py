"""--mode=serve: search over HTTP, with a web page."""

import dataclasses

import jax
from ml_collections import ConfigDict

from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.text_queries import TextQueries, open_encoder
from dreamprvr_jax.archive.serving.limits import Limits
from dreamprvr_jax.archive.videos.finding import find_videos
from dreamprvr_jax.cli import console
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError

_EXTRA = "pip install 'dreamprvr_jax[serve]' (or -e '.[serve]' in a checkout)"


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
  max_connections: int
  max_connections_per_address: int
  request_seconds: float


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Serves an index until a signal stops it."""
  if jax.process_count() > 1:
    raise UserError('--mode=serve runs as one process; start it once')
  try:
    from dreamprvr_jax.archive.serving.files import VideoFiles
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
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  index = Index.open(
    arguments.index,
    arguments.checkpoint,
    mesh=mesh,
    memory_share=config.eval.corpus_share,
  )
  encoder = open_encoder(
    index.retriever, arguments.encoder, device=arguments.device
  )
  sentences = TextQueries(index.retriever, encoder)
  files = VideoFiles()
  if arguments.videos:
    files = VideoFiles(arguments.videos, find_videos(arguments.videos))
  if not encoder.semantic:
    console.say(
      f'the text encoder {encoder.name} does not understand words: it compares '
      'their spelling'
    )
  make = lambda stop: Service(
    index,
    lambda text: sentences.read(text, 'query').features,
    files,
    semantic=encoder.semantic,
    limits=limits,
    on_failure=stop,
  )
  host = arguments.host or '127.0.0.1'
  serve(make, host=host, port=arguments.port, say=console.say)
  return 0


def _limits(arguments: Arguments) -> Limits:
  """Returns the limits of the command line; raises UserError if one is
  invalid."""
  for name in ('max_connections', 'max_connections_per_address'):
    if getattr(arguments, name) < 1:
      raise UserError(
        f'--{name}={getattr(arguments, name)}: expected 1 or more, the number '
        'of connections that may be open'
      )
  seconds = arguments.request_seconds
  if not 0 < seconds < float('inf'):
    raise UserError(
      f'--request_seconds={seconds}: expected more than 0, the seconds that a '
      'request may take to arrive'
    )
  return Limits(
    connections=arguments.max_connections,
    address_connections=arguments.max_connections_per_address,
    header_seconds=seconds,
    body_seconds=seconds,
  )
