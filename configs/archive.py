"""Keys of `config.archive`: how videos in folders become an index."""

from configs.keys import Keys, key


def archive_keys() -> Keys:
  """Returns `config.archive` with its defaults."""
  archive = Keys('archive')
  archive.fps = key(2.0, 'Pictures per second of video that are encoded')
  archive.part_seconds = key(
    60.0,
    'Longer videos are encoded in parts of so many seconds, each a row of the '
    'index or more; docs/search.md has the table that this is chosen by',
  )
  archive.overlap_seconds = key(
    4.0, 'Seconds that two neighbouring parts have in common'
  )
  archive.retriever = key(
    '',
    "Retriever that needs no training: 'tf_prvr' or 'best_frame'; empty: the "
    'first, but the second for pictures without sentences (embedded)',
  )
  return archive
