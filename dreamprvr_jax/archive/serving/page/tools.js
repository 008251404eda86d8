// Elements, requests and texts that all parts of the page use.

// An element; text is never taken for HTML.
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function drawn(name, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const PATHS = {
  play: 'M7 4.5v15l12.5-7.5z',
  close: 'M5 5l14 14M19 5 5 19',
  before: 'M15 4 7 12l8 8',
  after: 'm9 4 8 8-8 8',
  save: 'M12 3v12m0 0-5-5m5 5 5-5M4 20h16',
  link: 'M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-6-6l-1.500 1.500M14 10a4 4 0 0 0' +
    '-6-.5l-3 3a4 4 0 0 0 6 6l1.500-1.500',
  like: 'M4 7h3l2-2h6l2 2h3v12H4zM12 9.500a3.500 3.500 0 1 0 0 7 3.500 3.500 ' +
    '0 0 0 0-7z',
};

export function icon(name) {
  return drawn('svg', {viewBox: '0 0 24 24', class: `icon ${name}`,
    'aria-hidden': 'true'}, drawn('path', {d: PATHS[name]}));
}

export function button(text, onclick, properties = {}) {
  return make('button', {type: 'button', onclick, ...properties}, text);
}

// The JSON that the server answers; raises Error with a sentence.
export async function fetched(path, options) {
  const answer = await answered(path, options);
  return answer.json();
}

export async function answered(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error('The server cannot be reached; is it still running?');
  }
  if (answer.ok) return answer;
  // The cookie has expired, or the server has a new token.
  if (answer.status === 401) location.reload();
  const content = await answer.json().catch(() => ({}));
  const text = content.error || `the server answers with ${answer.status}`;
  const error = new Error(text[0].toUpperCase() + text.slice(1) + '.');
  error.status = answer.status;
  throw error;
}

const two = (x) => String(x).padStart(2, '0');

// 7.2 s, 2:05 or 1:02:05.
export function clock(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}

// 0:07.2, for fields that `secondsOf` reads.
export function precise(seconds) {
  const tenths = Math.round(10 * seconds);
  const minutes = Math.floor(tenths / 600) % 60;
  const hours = Math.floor(tenths / 36000);
  const rest = `${two(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

// The seconds of 7, 7.2, 0:07.2 or 1:02:05; NaN if it is no time.
export function secondsOf(text) {
  const parts = text.trim().split(':');
  if (parts.length > 3 || !parts.every((x) => /^\d+([.,]\d*)?$/.test(x))) {
    return NaN;
  }
  return parts.reduce((sum, x) => 60 * sum + Number(x.replace(',', '.')), 0);
}

// The start and end of a moment, in seconds or, if these are unknown, per cent.
export function stretch(moment) {
  if (moment.start === null) {
    const [from, to] = moment.span.map((x) => Math.round(100 * x));
    return `${from}–${to} %`;
  }
  return `${clock(moment.start).replace(' s', '')}–${clock(moment.end)}`;
}

export function facts(entry) {
  return [entry.folder, entry.date,
    entry.duration === null ? 'length unknown' : clock(entry.duration),
    entry.file ? '' : 'its file is not on the server',
  ].filter(Boolean).join(' · ');
}

export function thumbnail(file, seconds) {
  return `${file.thumbnail}?t=${seconds.toFixed(2)}`;
}

// A picture that vanishes if the file gives none.
export function poster(file, seconds, properties = {}) {
  const image = make('img', {className: 'screen', alt: '', loading: 'lazy',
    draggable: false, src: thumbnail(file, seconds), ...properties});
  image.addEventListener('error', () => image.classList.add('none'));
  return image;
}

// Shows pictures of a stretch while the pointer moves over an element.
export function preview(box, file, start, end, count = 8) {
  let strip = null;
  const tile = make('div', {className: 'tile', hidden: true});
  box.append(tile);
  box.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'touch' || !(end > start)) return;
    if (!strip) {
      strip = new Image();
      strip.src = stripOf(file, start, end, count);
    }
    if (!strip.complete || !strip.naturalWidth) return;
    const area = box.getBoundingClientRect();
    const share = (event.clientX - area.left) / area.width;
    showTile(tile, strip, share, count);
    tile.hidden = false;
  });
  box.addEventListener('pointerleave', () => {
    tile.hidden = true;
  });
}

export function stripOf(file, start, end, count) {
  return `${file.strip}?start=${start.toFixed(2)}&end=${end.toFixed(2)}` +
    `&count=${count}`;
}

export function showTile(tile, strip, share, count) {
  const place = Math.min(Math.max(Math.floor(share * count), 0), count - 1);
  tile.style.backgroundImage = `url("${strip.src}")`;
  tile.style.backgroundSize = `${100 * count}% 100%`;
  tile.style.backgroundPosition =
    `${count > 1 ? 100 * place / (count - 1) : 0}% 0`;
}
