// The start page: how to ask, and the videos of the archive.

import {small} from '/page/viewer.js';
import {button, fetched, make, preview} from '/page/tools.js';

const EXAMPLES = ['a dog runs on the beach', 'someone opens a birthday present',
  'people dance at a wedding', 'a train arrives at a station',
  'cutting vegetables in a kitchen', 'the sun sets behind mountains'];
const STEP = 24;

// `health` says what the server can do. `ask` takes a sentence, `choose` asks
// for a picture, and `open` takes an entry.
export function start(health, {ask, choose, open}) {
  const box = make('div', {className: 'start'});
  box.append(make('h1', {}, 'Find the video, and the moment in it'));
  const pictures = health.reads.includes('picture');
  const texts = health.reads.includes('text');
  if (texts && health.semantic) {
    box.append(make('p', {}, 'Say what can be seen, as you would tell ' +
      'someone. Answers are videos, with the moments that fit best.'),
    make('div', {className: 'chips examples'}, ...EXAMPLES.map((text) =>
      button(text, () => ask(text), {className: 'chip'}))));
  } else if (texts) {
    box.append(make('p', {}, 'This index compares the spelling of words, not ' +
      'their meaning: ask in the words of the captions that its model was ' +
      'trained on.'));
  } else {
    box.append(make('p', {}, 'The encoder of this index knows pictures, but ' +
      'not which words fit them: search by a picture.'));
  }
  if (pictures) {
    box.append(make('p', {className: 'note'},
      texts ? 'Or search by a picture: ' : '',
      button(texts ? 'choose one' : 'Choose one', choose, {className: 'link'}),
      ', drop it here, or paste it.'));
  }
  return make('div', {}, box, archive(open));
}

// The videos, some at a time.
function archive(open) {
  const heading = make('h2', {}, 'The archive');
  const folder = make('select', {'aria-label': 'Folder'},
    make('option', {value: ''}, 'all folders'));
  const order = make('select', {'aria-label': 'Order'},
    make('option', {value: 'date'}, 'latest first'),
    make('option', {value: 'name'}, 'by name'),
    make('option', {value: 'length'}, 'longest first'));
  const name = make('input', {type: 'search', placeholder: 'Part of a name',
    'aria-label': 'Part of a name'});
  const cards = make('div', {className: 'cards'});
  const more = button('Show more', () => load(false), {className: 'more',
    hidden: true});
  const note = make('p', {className: 'note', role: 'status'});
  folder.hidden = true;
  let shown = [];
  let asked = 0;
  const load = async (fresh) => {
    const number = ++asked;
    if (fresh) shown = [];
    const wish = new URLSearchParams({order: order.value, limit: STEP,
      offset: shown.length, folder: folder.value, name: name.value.trim()});
    let found;
    try {
      found = await fetched(`/api/videos?${wish}`);
    } catch (error) {
      note.textContent = error.message;
      return;
    }
    if (number !== asked) return;
    if (folder.length === 1) {
      addFolders(folder, found.folders);
      folder.hidden = folder.length === 1;
    }
    shown.push(...found.videos);
    const made = found.videos.map((entry) => card(entry, open));
    if (fresh) cards.replaceChildren(...made);
    else cards.append(...made);
    more.hidden = shown.length >= found.total;
    note.textContent = found.total === 0 ? 'No video has such a name.' : '';
    heading.replaceChildren('The archive ', make('span', {className: 'rank'},
      found.total === 1 ? '1 video' : `${found.total.toLocaleString()} videos`));
  };
  let typing = 0;
  name.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => load(true), 250);
  });
  folder.addEventListener('change', () => load(true));
  order.addEventListener('change', () => load(true));
  load(true);
  return make('section', {className: 'archive'},
    make('div', {className: 'bar'}, heading, make('div', {className: 'narrow'},
      name, folder, order)), cards, note, more);
}

function card(entry, open) {
  const box = small(entry, () => open({...entry, moments: []}, 0));
  if (entry.file && entry.duration) {
    preview(box.querySelector('.poster'), entry.file, 0, entry.duration);
  }
  return box;
}

export function addFolders(select, folders) {
  for (const [name, count] of Object.entries(folders)) {
    const depth = name.split('/').length - 1;
    select.append(make('option', {value: name}, `${'\u2003'.repeat(depth)}${
      name.split('/').pop()} (${count.toLocaleString()})`));
  }
}
