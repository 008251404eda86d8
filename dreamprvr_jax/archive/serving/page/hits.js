// The rows of an answer.

import {timeline} from '/page/timeline.js';
import {
  button, clock, facts, icon, make, poster, preview, stretch,
} from '/page/tools.js';

const STRENGTHS = {strong: 'strong match', weak: 'weak match'};
// Seconds around a moment that its filmstrip shows, at least.
const AROUND = 4;

// `open` takes a hit, the second where it is shown, and the moment, if any.
export function row(hit, bounds, open) {
  const article = make('article', {className: 'hit', tabIndex: -1});
  article.hit = hit;
  const best = hit.moments[0];
  const start = best?.start ?? 0;
  article.append(hit.file ? picture(hit, best, start, open)
    : make('div', {className: 'poster bare'}, 'no file'));
  const chips = hit.moments.map((moment) => button(stretch(moment), () =>
    open(hit, moment.start ?? 0, moment), {className: 'chip',
    disabled: !hit.file, title: 'Play this moment'}));
  const line = timeline(hit, bounds[0], bounds[1], (share) => {
    if (hit.file && hit.duration !== null) open(hit, share * hit.duration);
  });
  const title = make('h2', {}, make('span', {className: 'rank'},
    `${hit.rank}. `), hit.title);
  if (STRENGTHS[hit.strength]) {
    title.append(make('span', {className: `badge ${hit.strength}`},
      STRENGTHS[hit.strength]));
  }
  article.append(
    make('div', {className: 'about'}, title,
      make('p', {className: 'facts'}, `${facts(hit)} · score ${
        hit.score.toFixed(3)}`),
      make('div', {className: 'chips'}, ...chips), copies(hit)),
    line.box);
  article.keys = {Enter: () => hit.file && open(hit, start, best),
    s: () => hit.file && open(hit, start, best, true)};
  chips.forEach((chip, i) => {
    article.keys[i + 1] = () => chip.click();
  });
  return article;
}

function picture(hit, best, start, open) {
  const box = make('button', {type: 'button', className: 'poster',
    title: 'Play the best moment', onclick: () => open(hit, start, best)},
  poster(hit.file, best?.peak ?? start), icon('play'));
  if (best && best.start !== null) {
    box.append(make('span', {className: 'time'}, clock(best.start)));
    const end = Math.max(best.end, best.start + AROUND);
    preview(box, hit.file, best.start, Math.min(end, hit.duration ?? end));
  }
  return box;
}

// Files with the same content.
function copies(hit) {
  const others = hit.others || [];
  if (!others.length) return null;
  const text = others.length === 1 ? '1 more copy'
    : `${others.length} more copies`;
  return make('details', {className: 'copies'}, make('summary', {}, text),
    make('ul', {}, ...others.map((name) => make('li', {}, name))));
}
