"""The results of a search as one HTML file without other files."""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dreamprvr_jax import folders

# Pixels of a timeline.
_WIDTH = 640
_HEIGHT = 48

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 62em;
  color: #222; background: #fff; padding: 0 1em; }
h2 { font-size: 1.05em; margin: 2em 0 0.4em; }
.id, .facts, .axis { color: #666; font-weight: normal; font-size: 0.85em; }
.hit { display: grid; grid-template-columns: 17em 1fr; gap: 0 1em;
  padding: 0.5em 0; border-top: 1px solid #ddd; }
.name { overflow-wrap: anywhere; }
.hit img { max-width: 100%; max-height: 8em; border-radius: 4px;
  margin-top: 0.3em; }
.right .name { color: #b14d00; font-weight: bold; }
svg { width: 100%; height: 3em; background: #f7f7f7; display: block; }
.axis { display: flex; justify-content: space-between; }
"""


def write_page(found: Mapping[str, Any], path: os.PathLike[str] | str) -> None:
  """Writes the results, replacing the file in one step.

  Args:
    found: `index`, the number of `videos`, and `queries`, each with `id`,
      maybe `text` and `right` ({video, moment: [start, end]}), and `hits`:
      rank, video, score, duration, timeline, and moments with span, start,
      end, score, and maybe `thumbnail`, the bytes of a JPEG. Unknown seconds
      are NaN.
    path: The file.
  """
  # The path of an index need not be text.
  folders.write_text(path, page(found), errors='replace')


def page(found: Mapping[str, Any]) -> str:
  """Returns the page."""
  count = len(found['queries'])
  title = f'{count:,} {"query" if count == 1 else "queries"}'
  head = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n'
    f'<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n'
  )
  about = (
    f'<h1>{title}</h1>\n<p class="facts">{found["videos"]:,} videos of '
    f'{escape(str(found["index"]))}. The line is the score along the video, '
    'filled stretches are its best moments, the darkest first; of captions of '
    'a split, the right video is orange, a bar below marks its true moment.</p>'
  )
  body = '\n'.join(_query(query) for query in found['queries'])
  return f'{head}<body>\n{about}\n{body}\n</body>\n</html>\n'


def _query(query: Mapping[str, Any]) -> str:
  name, text = escape(str(query['id'])), query.get('text')
  head = name
  if text:
    head = f'{escape(str(text))} <span class="id">{name}</span>'
  values = [x for hit in query['hits'] for x in hit['timeline']]
  bounds = (min(values), max(values)) if values else (0.0, 1.0)
  right = query.get('right') or {}
  hits = '\n'.join(_hit(hit, right, bounds) for hit in query['hits'])
  return f'<section>\n<h2>{head}</h2>\n{hits}\n</section>'


def _hit(
  hit: Mapping[str, Any],
  right: Mapping[str, Any],
  bounds: tuple[float, float],
) -> str:
  is_right = hit['video'] == right.get('video')
  duration = hit['duration']
  known = math.isfinite(duration)
  truth = None
  if is_right and known and all(map(math.isfinite, right['moment'])):
    truth = [min(max(x / duration, 0.0), 1.0) for x in right['moment']]
  end = f'{duration:.1f} s' if known else 'end'
  return (
    f'<div class="hit{" right" if is_right else ""}"><div>'
    f'<div class="name">{hit["rank"]}. {escape(str(hit["video"]))}</div>'
    f'<div class="facts">{hit["score"]:.4f}<br>'
    f'{"<br>".join(map(_moment, hit["moments"]))}</div>'
    f'{_picture(hit)}</div>'
    f'<div>{_timeline(hit, bounds, truth)}'
    f'<div class="axis"><span>0</span><span>{end}</span></div></div></div>'
  )


def _picture(hit: Mapping[str, Any]) -> str:
  if 'thumbnail' not in hit:
    return ''
  content = base64.b64encode(hit['thumbnail']).decode()
  return f'<img src="data:image/jpeg;base64,{content}" alt="">'


def _moment(moment: Mapping[str, Any]) -> str:
  start, end, unit = moment['start'], moment['end'], 's'
  if not math.isfinite(start):
    start, end = (100 * x for x in moment['span'])
    unit = '%'
  return f'{start:.1f} to {end:.1f} {unit} ({moment["score"]:.3f})'


def _timeline(
  hit: Mapping[str, Any],
  bounds: tuple[float, float],
  truth: Sequence[float] | None,
) -> str:
  """Returns the drawing; all hits of a query have the same scale."""
  low, high = bounds
  scale = (_HEIGHT - 10) / (high - low or 1.0)
  line = hit['timeline']
  points = ' '.join(
    f'{(i + 0.5) * _WIDTH / len(line):.1f},'
    f'{_HEIGHT - 6 - (value - low) * scale:.1f}'
    for i, value in enumerate(line)
  )
  drawn = [
    _box(moment['span'], 0, _HEIGHT, '#0072b2', 0.35 / rank)
    for rank, moment in enumerate(hit['moments'], 1)
  ]
  if truth:
    drawn.append(_box(truth, _HEIGHT - 4, 4, '#d55e00', 1))
  drawn.append(
    f'<polyline points="{points}" fill="none" stroke="#222" '
    'stroke-width="1.3" vector-effect="non-scaling-stroke"/>'
  )
  return (
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" '
    f'role="img">{"".join(drawn)}</svg>'
  )


def _box(
  span: Sequence[float], top: float, height: float, color: str, shade: float
) -> str:
  return (
    f'<rect x="{span[0] * _WIDTH:.1f}" y="{top}" '
    f'width="{(span[1] - span[0]) * _WIDTH:.1f}" height="{height}" '
    f'fill="{color}" fill-opacity="{shade:.2f}"/>'
  )
