"""evaluate --labels=FILE: queries with several right videos.

There are three sets of right videos: `single`, the query's own video;
`released`, the videos in the file; `closed`, these and the videos of all
queries with the same sentence.
"""

import logging
from typing import Any

import numpy as np

from data_pipeline import labels
from data_pipeline.corpus import Split
from data_pipeline.moments import plain
from dreamprvr_jax.cli import console
from dreamprvr_jax.metrics import multi_label, retrieval

_log = logging.getLogger(__name__)


class LabelSets:
  """The right videos of the queries of a split, by set."""

  def __init__(self, path: str, split: Split, *, labelled_only: bool = False):
    """Reads the labels, before scores are computed.

    Args:
      path: Label file.
      split: The split that is evaluated.
      labelled_only: Whether queries without a label are left out instead of
        refused.

    Raises:
      DataError: If the file is bad or does not fit the split.
    """
    found = labels.read_labels(path)
    ids = split.caption_ids
    self._path = path
    self._rows = np.arange(len(ids))
    if labelled_only:
      labelled = np.flatnonzero([query in found for query in ids])
      # If no query has a label, the file is the wrong one and is refused below.
      self._rows = labelled if len(labelled) else self._rows
    queries = [ids[row] for row in self._rows]
    columns = labels.columns_of(found, queries, split.video_ids)
    sentences = [split.captions[row] for row in self._rows]
    own = split.caption_video[self._rows]
    self._sets = {
      'single': list(own[:, None]),
      'released': columns,
      'closed': labels.close_over_sentences(columns, sentences, own),
    }
    others = sum(
      plain(found[query].caption) != plain(sentence)
      for query, sentence in zip(queries, sentences, strict=True)
    )
    if others:
      _log.warning(
        '%d of %d queries have another sentence in %s than in the split: are '
        'these its labels?',
        others,
        len(queries),
        path,
      )

  def metrics(self, scores: np.ndarray) -> dict[str, Any]:
    """Returns the metrics of each set, ready for JSON.

    Args:
      scores: (n, v) of all queries of the split.
    """
    scores = scores[self._rows]
    return {
      'file': self._path,
      **{
        name: multi_label.summary(multi_label.ranks_of(scores, right))
        for name, right in self._sets.items()
      },
    }


def show(found: dict[str, Any]) -> None:
  """Prints the metrics of each set as a table."""
  rows = {}
  for name in ('single', 'released', 'closed'):
    values = found[name]
    best = {key: values[key] for key in ('MedR', 'mAP')}
    rows[f'{name}: coverage'] = {**values['coverage'], **best}
    if name != 'single':
      rows[f'{name}: hit'] = values['hit']
      rows[f'{name}: ceiling of coverage'] = values['ceiling']
  counts = ', '.join(
    f'{found[name]["positives"]:,} {name}'
    for name in ('single', 'released', 'closed')
  )
  console.say(
    f'\nright videos of {found["single"]["queries"]:,} queries: {counts}'
  )
  console.say(retrieval.format_table(rows, (*console.TABLE_COLUMNS, 'mAP')))
