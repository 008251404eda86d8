"""The results of a search as one HTML file, which plays the videos from where
they are."""

import base64
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from dreamprvr_jax import folders

# Pixels of a timeline.
_WIDTH = 640
_HEIGHT = 48

# A moment is played for so many seconds, at least.
_LEAST = 2.0
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1d22; --soft: #667;
  --line: #dde; --panel: #f4f5f8; --accent: #3d5be0; --right: #b14d00; }
@media (prefers-color-scheme: dark) { :root { --back: #121419; --text: #e9ebf0;
  --soft: #9aa2b2; --line: #31353f; --panel: #1d2027; --accent: #8ea2ff;
  --right: #ffa566; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; padding: 0 1em;
  max-width: 66em; color: var(--text); background: var(--back); }
h2 { font-size: 1.1em; margin: 2em 0 0.5em; }
.id, .facts, .axis, .others { color: var(--soft); font-weight: normal;
  font-size: 0.87em; }
.hit { display: grid; grid-template-columns: 15em minmax(0, 1fr);
  gap: 0.4em 1.1em; padding: 0.8em 0; border-top: 1px solid var(--line); }
.hit:not(:has(.media)) { grid-template-columns: minmax(0, 1fr); }
.name { overflow-wrap: anywhere; font-weight: 600; }
.media video, .media img { width: 100%; aspect-ratio: 16 / 9; display: block;
  object-fit: contain; background: #000; border-radius: 8px; }
video:not([controls]) { cursor: pointer; }
.right .name { color: var(--right); }
.strong, .weak { font-size: 0.8em; font-weight: normal; padding: 0 0.5em;
  border: 1px solid; border-radius: 1em; margin-left: 0.4em; }
.moments a, .moments span { display: inline-block; padding: 0 0.7em;
  margin: 0.3em 0.3em 0.3em 0; border: 1px solid var(--line);
  border-radius: 1em; background: var(--panel); color: inherit;
  text-decoration: none; font-variant-numeric: tabular-nums; }
.moments a:hover { border-color: var(--accent); }
svg { width: 100%; height: 3em; background: var(--panel); display: block;
  border-radius: 6px; }
svg[data-seconds] { cursor: pointer; }
polyline { stroke: var(--text); }
.axis { display: flex; justify-content: space-between; }
@media (max-width: 40em) { .hit { grid-template-columns: minmax(0, 1fr); } }
"""
# A file that the browser cannot play leaves its picture. Links and timelines
# play the video beside them; without scripts a link opens the file.
_SCRIPT = """
document.addEventListener('error', (event) => {
  const video = event.target;
  if (video.tagName !== 'VIDEO') return;
  const link = document.createElement('a');
  link.href = video.src;
  link.textContent = 'This browser cannot play the file; open it';
  const picture = new Image();
  picture.src = video.poster;
  if (video.poster) video.before(picture);
  video.replaceWith(link);
}, true);
// Pictures have no controls over them until someone plays the video.
for (const video of document.querySelectorAll('video')) video.controls = false;
let stop = Infinity;
document.addEventListener('timeupdate', (event) => {
  if (event.target.currentTime < stop) return;
  stop = Infinity;
  event.target.pause();
}, true);
function play(place, start, end) {
  const video = place.closest('.hit').querySelector('video');
  if (!video) return false;
  for (const other of document.querySelectorAll('video')) other.pause();
  stop = end;
  video.controls = true;
  const go = () => { video.currentTime = start; };
  if (video.readyState) go();
  else video.addEventListener('loadedmetadata', go, {once: true});
  video.play().catch(() => {});
  return true;
}
document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-start]');
  const line = event.target.closest('svg[data-seconds]');
  const video = event.target.closest('video');
  if (video && !video.controls) {
    video.controls = true;
    video.play().catch(() => {});
  }
  if (link && play(link, Number(link.dataset.start),
      Number(link.dataset.end))) event.preventDefault();
  if (!line) return;
  const box = line.getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  play(line, share * Number(line.dataset.seconds), Infinity);
});
"""


def write_page(found: Mapping[str, Any], path: os.PathLike[str] | str) -> None:
  """Writes the results, replacing the file in one step.

  Args:
    found: `index`, the number of `videos`, and `queries`, each with `id`,
      maybe `text` and `right` ({video, moment: [start, end]}), and `hits`:
      rank, video, score, duration, timeline, and moments with span, start,
      end, score; and maybe `path` of the video's file, `thumbnail`, the bytes
      of a JPEG, `strength` and `others`. Unknown seconds are NaN.
    path: The file. Videos in its folder or below it are linked by relative
      addresses, so that they can be moved together; others by absolute ones.
  """
  folder = pathlib.Path(path).resolve().parent
  # The path of an index need not be text.
  folders.write_text(path, page(found, folder), errors='replace')


def page(found: Mapping[str, Any], folder: pathlib.Path | None = None) -> str:
  """Returns the page, for a file in a folder; see `write_page`."""
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
  body = '\n'.join(_query(query, folder) for query in found['queries'])
  script = f'<script>{_SCRIPT}</script>\n' if '<video' in body else ''
  return f'{head}<body>\n{about}\n{body}\n{script}</body>\n</html>\n'


def _query(query: Mapping[str, Any], folder: pathlib.Path | None) -> str:
  name, text = escape(str(query['id'])), query.get('text')
  head = name
  if text:
    head = f'{escape(str(text))} <span class="id">{name}</span>'
  values = [x for hit in query['hits'] for x in hit['timeline']]
  bounds = (min(values), max(values)) if values else (0.0, 1.0)
  right = query.get('right') or {}
  hits = '\n'.join(_hit(hit, right, bounds, folder) for hit in query['hits'])
  hits = hits or '<p class="facts">Nothing fits.</p>'
  return f'<section>\n<h2>{head}</h2>\n{hits}\n</section>'


def _hit(
  hit: Mapping[str, Any],
  right: Mapping[str, Any],
  bounds: tuple[float, float],
  folder: pathlib.Path | None,
) -> str:
  is_right = hit['video'] == right.get('video')
  duration = hit['duration']
  known = math.isfinite(duration)
  truth = None
  if is_right and known and all(map(math.isfinite, right['moment'])):
    truth = [min(max(x / duration, 0.0), 1.0) for x in right['moment']]
  end = f'{duration:.1f} s' if known else 'end'
  address = _address(hit['path'], folder) if 'path' in hit else ''
  media = _media(hit, address)
  strength = hit.get('strength', '')
  if strength in ('strong', 'weak'):
    strength = f'<span class="{strength}">{strength} match</span>'
  else:
    strength = ''
  others = ''
  if hit.get('others'):
    names = escape(', '.join(map(str, hit['others'])))
    others = f'<div class="others">copies: {names}</div>'
  moments = ''.join(_moment(moment, address) for moment in hit['moments'])
  line = _timeline(hit, bounds, truth, known and bool(address))
  return (
    f'<div class="hit{" right" if is_right else ""}">{media}<div>'
    f'<div class="name">{hit["rank"]}. {escape(str(hit["video"]))}{strength}'
    f'</div><div class="facts">score {hit["score"]:.4f}</div>'
    f'<div class="moments">{moments}</div>{others}{line}'
    f'<div class="axis"><span>0</span><span>{end}</span></div></div></div>'
  )


def _address(path: str, folder: pathlib.Path | None) -> str:
  """Returns the address of a file for a page in a folder."""
  file = pathlib.Path(path)
  if folder and file.is_relative_to(folder):
    below = file.relative_to(folder).as_posix()
    return './' + quote(os.fsencode(below))
  return 'file://' + quote(os.fsencode(file.absolute().as_posix()))


def _media(hit: Mapping[str, Any], address: str) -> str:
  """Returns the video, or only its picture; '' if there is none of them."""
  picture = ''
  if 'thumbnail' in hit:
    content = base64.b64encode(hit['thumbnail']).decode()
    picture = f'data:image/jpeg;base64,{content}'
  if address:
    poster = f' poster="{picture}"' if picture else ''
    start = hit['moments'][0]['start'] if hit['moments'] else 0.0
    begin = f'#t={start:.2f}' if math.isfinite(start) else ''
    return (
      f'<div class="media"><video controls playsinline preload="none"{poster} '
      f'src="{escape(address)}{begin}"></video></div>'
    )
  if picture:
    return f'<div class="media"><img src="{picture}" alt=""></div>'
  return ''


def _moment(moment: Mapping[str, Any], address: str) -> str:
  start, end = moment['start'], moment['end']
  known = math.isfinite(start)
  if known:
    text = f'{start:.1f} to {end:.1f} s'
  else:
    text = '{:.1f} to {:.1f} %'.format(*(100 * x for x in moment['span']))
  text = f'{text} ({moment["score"]:.3f})'
  if not address or not known:
    return f'<span>{text}</span>'
  until = max(end, start + _LEAST)
  return (
    f'<a href="{escape(address)}#t={start:.2f},{until:.2f}" '
    f'data-start="{start:.2f}" data-end="{until:.2f}">{text}</a>'
  )


def _timeline(
  hit: Mapping[str, Any],
  bounds: tuple[float, float],
  truth: Sequence[float] | None,
  plays: bool,
) -> str:
  """Returns the drawing; all hits of a query have the same scale.

  Args:
    hit: The hit.
    bounds: The least and the largest value of all hits.
    truth: Start and end of the true moment as shares of the video.
    plays: Whether a click on it plays the video.
  """
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
    f'<polyline points="{points}" fill="none" '
    'stroke-width="1.3" vector-effect="non-scaling-stroke"/>'
  )
  seconds = f' data-seconds="{hit["duration"]:.3f}"' if plays else ''
  return (
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" '
    f'role="img"{seconds}>{"".join(drawn)}</svg>'
  )


def _box(
  span: Sequence[float], top: float, height: float, color: str, shade: float
) -> str:
  return (
    f'<rect x="{span[0] * _WIDTH:.1f}" y="{top}" '
    f'width="{(span[1] - span[0]) * _WIDTH:.1f}" height="{height}" '
    f'fill="{color}" fill-opacity="{shade:.2f}"/>'
  )
