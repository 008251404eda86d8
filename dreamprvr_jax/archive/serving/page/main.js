// Asks the server, and shows its answers; the address holds what was asked.

import {addFolders, start} from '/page/browse.js';
import {row} from '/page/hits.js';
import {bytesOf, pictureOf, shrunk} from '/page/pictures.js';
import {boundsOf} from '/page/timeline.js';
import {button, fetched, make, thumbnail} from '/page/tools.js';
import {Viewer} from '/page/viewer.js';

const form = document.querySelector('form');
const said = document.querySelector('#said');
const main = document.querySelector('main');
const filters = document.querySelector('#filters');
const narrow = document.querySelector('#narrow');
const sent = document.querySelector('#sent');
const file = document.querySelector('#file');
const drop = document.querySelector('#drop');
// Hits that are asked for at first, then on demand.
const DEPTHS = [10, 40, 100];
let health = {reads: ['text'], semantic: true};
let asked = 0;
let hits = [];
let viewer = null;

function say(text, bad = false) {
  said.textContent = text;
  said.classList.toggle('bad', bad);
}

// What the address asks for: text, a picture of a video, or a picture that was
// sent and is kept with the entry of the browser's history.
function wish() {
  const found = new URLSearchParams(location.search);
  return {text: found.get('q') || '', like: found.get('like'),
    at: Number(found.get('at')) || 0, picture: history.state?.picture,
    filters: Object.fromEntries([...filters.elements].filter((x) => x.name)
      .map((x) => [x.name, found.get(x.name) || '']))};
}

function go(parameters, state = null) {
  const given = new URLSearchParams(parameters);
  for (const field of filters.elements) {
    if (field.name && field.value) given.set(field.name, field.value);
  }
  const text = given.toString();
  history.pushState(state, '', text ? `/?${text}` : '/');
  show();
}

function narrowed(chosen) {
  const [least, most] = (chosen.lasts || '').split('-').map(Number);
  // The server leaves out the day that is named as the end.
  const end = chosen.before && new Date(Date.parse(chosen.before) + 86400000)
    .toISOString().slice(0, 10);
  const found = {folder: chosen.folder, after: chosen.after, before: end,
    min_seconds: least, max_seconds: most};
  return Object.fromEntries(Object.entries(found).filter(([, x]) => x));
}

async function answer(asking, k) {
  const more = {k, ...narrowed(asking.filters)};
  if (asking.picture) {
    return fetched(`/api/search/picture?${new URLSearchParams(more)}`,
      {method: 'POST', headers: {'Content-Type': 'image/jpeg'},
        body: bytesOf(asking.picture)});
  }
  const what = asking.like ? {like: {video: asking.like, at: asking.at}}
    : {query: asking.text};
  return fetched('/api/search', {method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({...what, ...more})});
}

// Show what the address asks for.
async function show() {
  const number = ++asked;
  const asking = wish();
  form.q.value = asking.text;
  for (const [name, value] of Object.entries(asking.filters)) {
    filters.elements[name].value = value;
  }
  const chosen = Object.values(asking.filters).filter(Boolean).length;
  narrow.textContent = chosen ? `Filters (${chosen})` : 'Filters';
  const like = asking.like && `/thumbnails/${encodeURIComponent(asking.like)}`;
  sent.hidden = !asking.picture && !like;
  sent.querySelector('img').src = asking.picture ||
    (like ? thumbnail({thumbnail: like}, asking.at) : '');
  document.title = asking.text ? `${asking.text} – find a moment`
    : 'Find a moment';
  hits = [];
  if (!asking.text && !asking.picture && !like) {
    say('');
    main.replaceChildren(start(health, {ask: (text) => go({q: text}),
      choose: () => file.click(), open}));
    opened();
    return;
  }
  say('Searching…');
  main.classList.add('old');
  await more(asking, 0, number);
}

async function more(asking, level, number) {
  try {
    const found = await answer(asking, DEPTHS[level]);
    if (number !== asked) return;
    const bounds = boundsOf(found.hits);
    hits = found.hits;
    const rows = hits.map((hit) => row(hit, bounds, open));
    main.replaceChildren(...withVerdict(found.hits, rows));
    const next = DEPTHS[level + 1];
    if (next && found.hits.length >= DEPTHS[level] &&
        found.videos > found.hits.length) {
      const again = button('Show more videos', () => {
        again.disabled = true;
        more(asking, level + 1, number);
      }, {className: 'more'});
      main.append(again);
    }
    say(`${found.notice ? `${capital(found.notice)}. ` : ''}The best ${
      found.hits.length} of ${found.videos.toLocaleString()} videos, in ${
      found.seconds.toFixed(2)} s.${health.semantic || !asking.text ? ''
      : ' This index compares the spelling of words, not their meaning.'}`);
    if (!level) opened();
  } catch (error) {
    if (number === asked) {
      main.replaceChildren();
      say(error.message, true);
    }
  } finally {
    if (number === asked) main.classList.remove('old');
  }
}

// The rows, with a sentence where those begin that do not fit.
function withVerdict(found, rows) {
  if (!found.length) {
    return [make('p', {className: 'verdict'}, 'No video passes the filters.')];
  }
  const first = found.findIndex((hit) => hit.strength === 'none');
  if (first < 0) return rows;
  const text = first ? 'No clear match from here on.'
    : 'Nothing in this archive clearly fits. These videos are the nearest.';
  const verdict = make('p', {className: first ? 'verdict small' : 'verdict'},
    text);
  return [...rows.slice(0, first), verdict, ...rows.slice(first)];
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

// Open the moment that the address names behind its #.
async function opened() {
  const named = new URLSearchParams(location.hash.slice(1));
  const video = named.get('v');
  if (!video) {
    viewer.close();
    return;
  }
  const seconds = Number(named.get('t')) || 0;
  if (viewer.isOpen && viewer.entry.video === video) return;
  let entry = hits.find((hit) => hit.video === video);
  try {
    entry = entry || await fetched(`/api/videos/${encodeURIComponent(video)}`);
  } catch (error) {
    say(error.message, true);
    return;
  }
  if (entry.file) {
    // A browser lets no page play before someone has touched it.
    viewer.open({moments: [], ...entry}, seconds, null, false, false);
  } else {
    say(`The file of ${entry.title} is not on the server.`, true);
  }
}

function open(entry, seconds, moment, similar) {
  viewer.open(entry, seconds, moment, similar);
}

function changed(entry, seconds) {
  const place = location.pathname + location.search;
  if (!entry) {
    history.replaceState(history.state, '', place);
    return;
  }
  const hash = new URLSearchParams({v: entry.video, t: seconds.toFixed(1)});
  history.replaceState(history.state, '', `${place}#${hash}`);
}

function turn(entry, by) {
  const place = hits.findIndex((hit) => hit.video === entry.video);
  const others = hits.filter((hit, i) => hit.file &&
    (by > 0 ? i > place : i < place));
  return place < 0 ? null : others.at(by > 0 ? 0 : -1) || null;
}

async function take(blob) {
  if (!health.reads.includes('picture')) {
    say('This index cannot be searched by pictures.', true);
    return;
  }
  try {
    const picture = await shrunk(blob);
    viewer.close();
    go({picture: 1}, {picture});
  } catch {
    say('This file is no picture that the browser can read.', true);
  }
}

function listen() {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = form.q.value.trim();
    if (!text && !sent.hidden) {
      // The picture is asked for again, with other filters.
      const asking = wish();
      if (asking.picture) go({picture: 1}, {picture: asking.picture});
      else go({like: asking.like, at: asking.at});
    } else {
      go(text ? {q: text} : {});
    }
  });
  document.querySelector('.home').addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    reset();
    go({});
  });
  document.querySelector('#choose').onclick = () => file.click();
  sent.querySelector('button').onclick = () => go({});
  file.addEventListener('change', () => {
    if (file.files[0]) take(file.files[0]);
    file.value = '';
  });
  narrow.onclick = () => {
    filters.hidden = !filters.hidden;
    narrow.setAttribute('aria-expanded', !filters.hidden);
  };
  filters.addEventListener('change', () => form.requestSubmit());
  document.querySelector('#clear').onclick = () => {
    reset();
    form.requestSubmit();
  };
  addEventListener('paste', (event) => {
    const picture = pictureOf(event.clipboardData?.files);
    if (picture) {
      event.preventDefault();
      take(picture);
    }
  });
  addEventListener('dragover', (event) => {
    if (![...event.dataTransfer.types].includes('Files')) return;
    event.preventDefault();
    drop.hidden = false;
  });
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) drop.hidden = true;
  });
  addEventListener('drop', (event) => {
    drop.hidden = true;
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    const picture = pictureOf(event.dataTransfer.files);
    if (picture) take(picture);
    else say('Drop a picture: JPEG, PNG, WebP or GIF.', true);
  });
  addEventListener('popstate', show);
  addEventListener('keydown', key);
}

function reset() {
  for (const field of filters.elements) {
    if (field.name) field.value = '';
  }
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || viewer.isOpen) return;
  if (event.target.matches('input, select')) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  const rows = [...main.querySelectorAll('.hit')];
  const here = document.activeElement.closest('.hit');
  const move = {j: 1, k: -1}[event.key];
  if (event.key === '/') {
    event.preventDefault();
    form.q.select();
  } else if (move && rows.length) {
    const next = here ? rows.indexOf(here) + move : 0;
    rows[Math.min(Math.max(next, 0), rows.length - 1)].focus();
  } else if (here?.keys[event.key]) {
    // Enter on a button of the row presses that button.
    if (event.key !== 'Enter' || event.target === here) here.keys[event.key]();
  }
}

// Wait until the server answers, then show what the address asks for.
async function wake() {
  try {
    const found = await fetch('/api/health');
    if (found.status === 401) location.reload();
    health = await found.json();
    if (health.status === 'warming up') {
      say('The server is warming up; it answers in a moment.');
      setTimeout(wake, 1000);
      return;
    }
  } catch {
    say('The server cannot be reached; is it still running?', true);
    setTimeout(wake, 3000);
    return;
  }
  const pictures = health.reads.includes('picture');
  document.querySelector('#choose').hidden = !pictures;
  form.q.disabled = !health.reads.includes('text');
  if (form.q.disabled) form.q.placeholder = 'Search by a picture →';
  viewer = new Viewer(document.querySelector('dialog'), {turn, changed,
    like: pictures ? (entry, seconds) => {
      viewer.close();
      go({like: entry.video, at: seconds.toFixed(2)});
    } : null});
  listen();
  const {folders} = await fetched('/api/videos?limit=1').catch(() => ({}));
  addFolders(filters.elements.folder, folders || {});
  await show();
  if (!location.search && !viewer.isOpen && matchMedia('(hover: hover)').matches) {
    form.q.focus();
  }
}
wake();
