"""The flags that only index takes; see `options.py`."""

from dreamprvr_jax.cli.option import option

INDEX_OPTIONS = (
  option(
    'tokens',
    'float16',
    'KIND',
    'tokens of a new index: float16, int8 or float16+int8',
    'index',
  ),
  option(
    'compact',
    False,
    '',
    'rewrite the index without the videos that were removed',
    'index',
  ),
  option(
    'append', False, '', 'add the videos that the index does not have', 'index'
  ),
  option(
    'remove',
    '',
    'ID,...',
    'remove videos from the index; @FILE has one id on each line',
    'index',
    path='@',
  ),
  option(
    'restore',
    '',
    'ID,...',
    'index videos again that --remove took out; @FILE as for it',
    'index',
    path='@',
  ),
  option(
    'gone',
    False,
    '',
    'take out the videos of a folder that is not there, or empty',
    'index',
  ),
  option(
    'recall',
    0.0,
    'SHARE',
    'make lists that find this share of the exact best ten, such as 0.98',
    'index',
  ),
  option(
    'memory',
    0.0,
    'GB',
    'memory that making the lists may take; 0: half of what is free',
    'index',
  ),
  option(
    'retriever',
    '',
    'NAME',
    'tf_prvr, or best_frame (the default with embedded), for a new index',
    'index',
  ),
  option(
    'all_videos',
    False,
    '',
    'index every video of the features, not only those of a split',
    'index',
  ),
)
