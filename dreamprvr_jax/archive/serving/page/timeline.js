// The score along a video, its moments, and pictures of it under the pointer.

import {clock, drawn, make, showTile, stripOf} from '/page/tools.js';

const TILES = 24;
// Milliseconds until the picture under a resting pointer is exact.
const REST = 200;

// `low` and `high` are the bounds of the score. `onSeek` takes a share of the
// video.
export function timeline(hit, low, high, onSeek) {
  const svg = drawn('svg', {viewBox: '0 0 1000 100', role: 'slider',
    preserveAspectRatio: 'none', tabindex: 0, 'aria-valuemin': 0,
    'aria-valuemax': 100, 'aria-valuenow': 0,
    'aria-label': `Timeline of ${hit.title}`});
  const moments = hit.moments || [];
  moments.forEach((moment, i) => svg.append(drawn('rect', {
    class: 'moment', x: 1000 * moment.span[0], y: 0, height: 100,
    width: Math.max(1000 * (moment.span[1] - moment.span[0]), 3),
    'fill-opacity': 0.5 / (i + 1)})));
  const values = hit.timeline || [];
  const height = (value) => 92 - 84 * (value - low) / (high - low || 1);
  const count = values.length;
  const step = (value, i) => `${i ? 'L' : 'M'}${(1000 * i / count).toFixed(1)
  },${height(value).toFixed(1)}H${(1000 * (i + 1) / count).toFixed(1)}`;
  if (count) {
    const line = values.map(step).join('');
    svg.append(drawn('path', {class: 'area', d: `${line}V100H0Z`}),
      drawn('path', {class: 'score', d: line}));
  }
  const now = drawn('line', {class: 'now', y1: 0, y2: 100, x1: -9, x2: -9});
  svg.append(now);
  const box = make('div', {className: 'line'}, svg);
  let place = 0;
  const mark = (share) => {
    place = Math.min(Math.max(share, 0), 1);
    now.setAttribute('x1', 1000 * place);
    now.setAttribute('x2', 1000 * place);
    svg.setAttribute('aria-valuenow', Math.round(100 * place));
  };
  const shareAt = (event) => {
    const area = svg.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1);
  };
  const go = (share) => {
    mark(share);
    onSeek(place);
  };
  svg.addEventListener('click', (event) => {
    event.stopPropagation();
    go(shareAt(event));
  });
  svg.addEventListener('keydown', (event) => {
    const by = {ArrowLeft: -0.02, ArrowRight: 0.02}[event.key];
    if (by) {
      event.preventDefault();
      event.stopPropagation();
      go(place + by);
    }
  });
  hover(box, svg, hit, shareAt);
  return {box, mark};
}

// The bounds of the score in some hits.
export function boundsOf(hits) {
  const values = hits.flatMap((hit) => hit.timeline || []);
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
}

// A small picture and the time under the pointer.
function hover(box, svg, hit, shareAt) {
  const tip = make('div', {className: 'tip', hidden: true});
  const tile = make('div', {className: 'tile', hidden: true});
  const label = make('span');
  tip.append(tile, label);
  box.append(tip);
  let strip = null;
  let resting = 0;
  svg.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'touch') return;
    const share = shareAt(event);
    const long = hit.duration;
    label.textContent = long === null ? `${Math.round(100 * share)} %`
      : clock(share * long);
    const area = box.getBoundingClientRect();
    const half = tip.offsetWidth / 2 || 90;
    const x = Math.min(Math.max(share * area.width, half), area.width - half);
    tip.style.left = `${x}px`;
    tip.hidden = false;
    if (!hit.file || long === null) return;
    if (!strip) {
      strip = new Image();
      strip.src = stripOf(hit.file, 0, long, TILES);
    }
    tile.dataset.wanted = '';
    if (strip.naturalWidth) {
      showTile(tile, strip, share, TILES);
      tile.hidden = false;
    }
    clearTimeout(resting);
    resting = setTimeout(() => exact(tile, hit, share * long), REST);
  });
  svg.addEventListener('pointerleave', () => {
    clearTimeout(resting);
    tip.hidden = true;
  });
}

function exact(tile, hit, seconds) {
  const image = new Image();
  const wanted = `${hit.file.thumbnail}?t=${seconds.toFixed(2)}`;
  tile.dataset.wanted = wanted;
  image.onload = () => {
    if (tile.dataset.wanted !== wanted) return;
    tile.hidden = false;
    tile.style.backgroundImage = `url("${wanted}")`;
    tile.style.backgroundSize = 'contain';
    tile.style.backgroundPosition = 'center';
  };
  image.src = wanted;
}
