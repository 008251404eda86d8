"""The flags that only search takes; see `options.py`."""

from dreamprvr_jax.cli.option import option, path_option

SEARCH_OPTIONS = (
  option('query', None, 'TEXT', 'a sentence to search for', 'search', kind=str),
  path_option('image', 'FILE', 'a picture to search for', 'search'),
  path_option('clip', 'FILE', 'a video to search for', 'search'),
  option(
    'span',
    '',
    'START-END',
    'search for these seconds of --clip only, such as 3-8',
    'search',
  ),
  option(
    'caption',
    None,
    'N',
    'search for this caption of the split only, from 0',
    'search',
    kind=int,
  ),
  option('k', 10, 'K', 'videos found per query', 'search'),
  option(
    'cutoff',
    'none',
    'KIND',
    'leave out weaker hits: weak, or strong to keep only the strong ones; '
    'none: show all',
    'search',
  ),
  option(
    'folder',
    '',
    'PREFIX',
    'find only videos in this folder, or below it',
    'search',
  ),
  option(
    'after',
    '',
    'DATE',
    'find only files changed on this day or later: YYYY-MM-DD',
    'search',
  ),
  option(
    'before',
    '',
    'DATE',
    'find only files changed before this day: YYYY-MM-DD',
    'search',
  ),
  option(
    'min_seconds', 0.0, 'N', 'find only videos that last so long', 'search'
  ),
  option(
    'duplicates',
    False,
    '',
    'list copies of a video as hits of their own',
    'search',
  ),
  path_option(
    'save_clips', 'DIR', 'save the best moment of each hit as MP4', 'search'
  ),
  option(
    'first_pass',
    'auto',
    'KIND',
    'lists or int8, then exactly among the best; none; auto: lists, if any',
    'search',
  ),
  path_option(
    'database',
    'DIR',
    {
      'search': 'search in a vector database first, its folder or address',
      'export': 'folder of the database, or http://HOST:PORT/COLLECTION',
    },
  ),
  option(
    'rescore', 4, 'M', 'int8 or a database gives M * K candidates', 'search'
  ),
)
