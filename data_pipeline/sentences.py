"""Where a corpus has the vectors of whole sentences.

Retrievers without training compare them with frames. MSC's teacher and the
pooled query of DiffusionRet are the last row of the word features. A corpus has
them in a file of its own, `TextData/sentence_feats.hdf5`, or as that last row,
as CLIP's end of text is. Unless the option `sentence` says which, the file
comes first, and a word-feature file with "clip" in its name is taken to end in
sentences.
"""

import pathlib
from collections.abc import Callable

from data_pipeline.errors import DataError
from data_pipeline.options import SENTENCES, DataOptions


def are_last_rows(options: DataOptions, words: str) -> bool:
  """Returns whether word features end in the vector of the sentence.

  Args:
    options: `sentence` may say so.
    words: The name of their file.
  """
  if options.sentence == 'auto':
    return 'clip' in words.lower()
  return options.sentence == 'last'


def find(
  options: DataOptions, find_words: Callable[[], pathlib.Path]
) -> pathlib.Path:
  """Returns the file whose last (or only) row of a caption is the vector of the
  sentence.

  Args:
    options: Those of a retriever without training.
    find_words: Returns the file of the word features, or raises a DataError.

  Raises:
    DataError: If the corpus has no sentence vectors.
  """
  path = pathlib.Path(options.folder) / 'TextData' / SENTENCES
  if options.sentence != 'last' and path.is_file():
    return path
  if options.sentence == 'last':
    return find_words()
  found = None
  if options.sentence == 'auto':
    try:
      found = find_words()
    except DataError:
      found = None
  if found is not None and are_last_rows(options, found.name):
    return found
  raise DataError(
    f'{path} is missing: {options.retriever} compares the vector of a whole '
    'sentence with frames, and the corpus has none; extract it with an encoder '
    'of pictures and sentences (--mode=extract --encoder=clip or siglip), '
    'import its sentence vectors (--mode=import --sentences=FILE), or set '
    "config.data.sentence='last' if the last row of each caption's word "
    'features is one'
  )
