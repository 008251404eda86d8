"""The lists of an index, which `index --recall` makes and every later `index`
keeps up to date."""

import importlib.util
import logging

from ml_collections import ConfigDict

from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import retriever_of
from dreamprvr_jax.archive.lists.branch_lists import import_faiss
from dreamprvr_jax.archive.search.list_keeping import keep_lists
from dreamprvr_jax.cli import console
from dreamprvr_jax.cli.folder_indexing import Arguments
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import available_memory
from dreamprvr_jax.trained.retriever import Retriever

# Bytes that building may take where the free memory is not known.
_UNKNOWN = 4 * 2**30

_log = logging.getLogger(__name__)


def check(arguments: Arguments) -> None:
  """Raises UserError if a flag is out of its range, or needs what is missing:
  before any video is encoded."""
  if not 0 <= arguments.recall < 1:
    raise UserError(
      f'--recall={arguments.recall} is no share of the best ten videos; give '
      'one above 0 and below 1, such as 0.98'
    )
  if arguments.recall:
    import_faiss()
  if not arguments.memory >= 0:
    raise UserError(
      f'--memory={arguments.memory} is no size; give GB, or 0 for half of the '
      'free memory'
    )


def keep(
  config: ConfigDict,
  arguments: Arguments,
  manifest: Manifest | None,
  retriever: Retriever | None = None,
) -> None:
  """Makes the lists of an index, or brings them up to date, and prints what
  they are.

  Args:
    config: Has the number of devices.
    arguments: The flags of index.
    manifest: The manifest of the index; None if there is none.
    retriever: The retriever of the index; None to load it.

  Raises:
    UserError: See `keep_lists`; a missing FAISS is one only with --recall.
  """
  if manifest is None or not (arguments.recall or manifest.lists):
    return
  place = arguments.index
  if not arguments.recall and importlib.util.find_spec('faiss') is None:
    _log.warning(
      'the lists of %s are not brought up to date, because FAISS is missing; '
      "install it with pip install 'dreamprvr_jax[lists]'. Until then, new "
      'videos are scored beside the lists',
      place,
    )
    return
  free = available_memory()
  memory = arguments.memory * 1e9 or (free / 2 if free else _UNKNOWN)
  found = keep_lists(
    place,
    retriever or retriever_of(manifest, arguments.checkpoint),
    recall=arguments.recall,
    memory=memory,
    mesh=meshes.make_mesh(config.num_devices, config.corpus_devices),
    show=arguments.progress,
  )
  lists = found.lists
  if lists is not None:
    console.say(
      f'lists: a search looks into {lists.probes:,} and scores {lists.depth:,} '
      f'videos; recall@10 {lists.found:.4f} of the exact search, over '
      f'{lists.queries} queries made from the videos'
    )
