"""The model card that goes to the hub with a trained model."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dreamprvr_jax import checkpoints, text

_COLUMNS = ('R@1', 'R@5', 'R@10', 'R@100', 'SumR')
_PAPER = 'https://arxiv.org/abs/2604.03653'


def results_of(directory: os.PathLike[str] | str) -> list[dict[str, Any]]:
  """Returns the metrics of a run: those of its eval_*.json files, or else those
  with which its best epoch was chosen; none for weights without a run.

  Raises:
    TextError: If a file is not JSON.
    CheckpointError: If the best epoch's facts are damaged.
  """
  found = []
  for path in sorted(pathlib.Path(directory).glob('eval_*.json')):
    metrics = text.parse_json(text.read(path), str(path))
    if isinstance(metrics, dict) and all(key in metrics for key in _COLUMNS):
      found.append(metrics)
  if found:
    return found
  best = checkpoints.best_info(directory)
  if best is None:
    return []
  return [
    {**best['metrics'], 'epoch': best['epoch'], 'chosen_on': best['split']}
  ]


def written(
  repo: str,
  stored: Mapping[str, Any],
  results: Sequence[Mapping[str, Any]],
  license: str,
) -> str:
  """Returns the card: metadata in YAML, then Markdown.

  Args:
    repo: 'user/name'.
    stored: The config.json that is published.
    results: See `results_of`.
    license: Licence of the weights in the words of the hub.
  """
  config = stored['config']
  data, model = config['data'], config['model']['name']
  lines = [
    *_metadata(repo, data['collection'], results, license),
    '',
    f'# {repo.partition("/")[2]}',
    '',
    f'A `{model}` model for partially relevant video retrieval: given one '
    'sentence, find the untrimmed video of which a part shows what the '
    'sentence says. Trained with dreamprvr_jax, the JAX version of '
    f'[DreamPRVR and its family]({_PAPER}).',
    '',
    '## Metrics',
    '',
    *_table(results),
    '',
    '## Data',
    '',
    f'- Collection: {data["collection"]}',
    f'- Frame features: {data["feature"] or "not named"}, width '
    f'{stored["visual_width"]}; at most {data["max_frames"]} frames and '
    f'{data["num_clips"]} clips a video',
    f'- Word features: {data["text_feature"] or "of the collection"}, width '
    f'{stored["text_width"]}; at most {data["max_words"]} words a query',
    *_encoder(stored.get('encoder', {})),
    '',
    '## Use',
    '',
    '```python',
    'import dreamprvr_jax',
    '',
    f'model, variables = dreamprvr_jax.load({repo!r})',
    "queries = model.apply(variables, words, mask, method='encode_query')",
    '```',
    '',
    f'`words` is (n, {data["max_words"]}, {stored["text_width"]}) float32, '
    f'`mask` (n, {data["max_words"]}) bool. `encode_video` and `score` are '
    'called alike.',
    '',
    '## Limits',
    '',
    '- The model reads features, not videos or text: only those of the same '
    'extractors and widths as above.',
    '- The metrics are of the collection above. Other videos and other ways of '
    'describing them can be found much worse.',
    '- Where the split of a row also chose the epoch, its metrics are '
    'optimistic.',
    '- The model finds what its captions name, with their biases. Do not use '
    'it to identify people.',
    '- The features and videos have terms of their own, which this licence '
    'does not change.',
  ]
  return '\n'.join(lines) + '\n'


def _metadata(
  repo: str,
  collection: str,
  results: Sequence[Mapping[str, Any]],
  license: str,
) -> list[str]:
  # A JSON text is a YAML text, too.
  lines = [
    '---',
    f'license: {json.dumps(license)}',
    'language: en',
    'library_name: dreamprvr_jax',
    'tags:',
    '- partially-relevant-video-retrieval',
    '- text-to-video-retrieval',
    '- jax',
    '- flax',
  ]
  if results:
    lines += ['model-index:', f'- name: {json.dumps(repo)}', '  results:']
  for row in results:
    lines += [
      '  - task:',
      '      type: text-to-video-retrieval',
      '      name: Partially relevant video retrieval',
      '    dataset:',
      f'      type: {json.dumps(collection)}',
      f'      name: {json.dumps(collection)}',
      f'      split: {json.dumps(row["split"])}',
      '    metrics:',
    ]
    for key in _COLUMNS:
      lines += [
        f'    - type: {json.dumps(key)}',
        f'      value: {row[key]:.2f}',
      ]
  return [*lines, '---']


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
  if not results:
    return ['No evaluation was stored with these weights.']
  lines = [
    'Recall in percent; SumR is the sum of the four.',
    '',
    f'| split | queries | videos | {" | ".join(_COLUMNS)} | epoch |',
    '|---' * (len(_COLUMNS) + 4) + '|',
  ]
  for row in results:
    sizes = f'{row["num_queries"]:,} | {row["num_videos"]:,}'
    values = ' | '.join(f'{row[key]:.1f}' for key in _COLUMNS)
    epoch = (
      f'{row["epoch"]}, chosen on {row["chosen_on"]}'
      if 'epoch' in row
      else 'not known'
    )
    lines.append(f'| {row["split"]} | {sizes} | {values} | {epoch} |')
  return lines


def _encoder(identity: Mapping[str, Any]) -> list[str]:
  if not identity:
    return []
  model = identity.get('model')
  which = f' ({model})' if model else ''
  return [f'- Encoder of both: {identity["name"]}{which}']
