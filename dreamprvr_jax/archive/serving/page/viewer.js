// One video, large: with its moments, and what one can do with them.

import {Player} from '/page/player.js';
import {boundsOf, timeline} from '/page/timeline.js';
import {
  answered, button, facts, fetched, icon, make, poster, precise, secondsOf,
  stretch,
} from '/page/tools.js';

// Seconds of a stretch that is offered for saving if no moment is chosen.
const SAVED = 10;
const SIMILAR = 8;

export class Viewer {
  // `turn` returns the hit before (-1) or after (1) one, or null. `like` takes
  // a video and a second and searches for that picture; null if the index
  // cannot be searched by pictures.
  constructor(dialog, {turn, like, changed}) {
    this.dialog = dialog;
    dialog.tabIndex = -1;
    this.turn = turn;
    this.like = like;
    this.changed = changed;
    dialog.addEventListener('close', () => this.closed());
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close();
    });
    dialog.addEventListener('keydown', (event) => this.key(event));
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(entry, seconds, moment = null, similar = false, plays = true) {
    this.player?.close();
    this.entry = entry;
    this.player = new Player(entry.file, (time) => this.mark(time));
    this.line = timeline(entry, ...boundsOf([entry]), (share) => {
      this.press(null);
      if (this.length) this.jump(share * this.length);
    });
    this.chips = (entry.moments || []).map((one) => button(stretch(one), () =>
      this.choose(one), {className: 'chip', 'aria-pressed': false}));
    this.note = make('p', {className: 'note', role: 'status'});
    this.others = make('div', {className: 'similar'});
    const end = entry.duration === null ? '' : precise(entry.duration);
    this.dialog.replaceChildren(this.head(), this.player.box,
      make('div', {className: 'under'}, this.line.box,
        make('div', {className: 'axis'}, make('span', {}, '0:00.0'),
          make('span', {}, end)),
        make('div', {className: 'chips'}, ...this.chips),
        this.actions(), this.note, this.others));
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.focus();
    this.press(moment);
    if (moment?.end) this.setStretch(moment.start, moment.end);
    else this.offer(seconds);
    const stop = moment?.end ?? null;
    const until = stop === null ? null : Math.max(stop, seconds + 2);
    if (plays) this.player.play(seconds, until);
    else this.player.show(seconds);
    this.mark(seconds);
    this.changed(entry, seconds);
    if (similar) this.showSimilar();
  }

  get length() {
    return this.entry.duration ?? (this.player.facts.duration || NaN);
  }

  head() {
    const {entry} = this;
    const steps = [[-1, 'before', 'Previous video'], [1, 'after', 'Next video']]
      .map(([by, name, title]) => {
        const other = this.turn(entry, by);
        return make('button', {type: 'button', title, disabled: !other,
          className: 'plain', onclick: () => this.step(by)}, icon(name));
      });
    return make('div', {className: 'bar'},
      make('div', {}, make('h2', {id: 'shown'}, entry.title),
        make('p', {className: 'facts'}, facts(entry))),
      make('div', {className: 'steps'}, ...steps, make('button', {
        type: 'button', className: 'plain', title: 'Close (Esc)',
        onclick: () => this.dialog.close()}, icon('close'))));
  }

  actions() {
    const field = (label) => make('input', {type: 'text', size: 8,
      'aria-label': label, inputMode: 'text', autocomplete: 'off',
      onchange: () => this.stretched()});
    this.from = field('Start of the stretch');
    this.to = field('End of the stretch');
    this.saving = make('button', {type: 'button', onclick: () => this.save()},
      icon('save'), 'Save the stretch');
    const link = make('button', {type: 'button', onclick: () => this.copy()},
      icon('link'), 'Copy a link');
    const like = this.like && make('button', {type: 'button',
      title: 'Search for moments that look like this picture',
      onclick: () => this.like(this.entry, this.player.time)}, icon('like'),
    'More like this picture');
    this.similar = button('Similar videos', () => this.showSimilar(),
      {'aria-expanded': false});
    return make('div', {className: 'actions'},
      make('span', {className: 'stretch'}, this.from, '–', this.to,
        this.saving), link, like, this.similar);
  }

  mark(seconds) {
    if (this.length) this.line.mark(seconds / this.length);
  }

  press(moment) {
    this.chips.forEach((chip, i) => chip.setAttribute('aria-pressed',
      this.entry.moments[i] === moment));
  }

  choose(moment) {
    this.press(moment);
    if (moment.start === null) {
      if (this.length) this.player.seek(moment.span[0] * this.length);
      return;
    }
    this.setStretch(moment.start, moment.end);
    this.player.play(moment.start, Math.max(moment.end, moment.start + 2));
    this.changed(this.entry, moment.start);
  }

  // Play on from a place.
  jump(seconds) {
    this.offer(seconds);
    this.player.seek(seconds);
    this.changed(this.entry, seconds);
  }

  // Offer to save what follows a place.
  offer(seconds) {
    this.setStretch(seconds,
      Math.min(seconds + SAVED, this.length || Infinity));
  }

  setStretch(start, end) {
    this.from.value = precise(start);
    this.to.value = precise(end);
  }

  // Returns [start, end], or null and marks the field that is wrong.
  stretched() {
    const start = secondsOf(this.from.value);
    const end = secondsOf(this.to.value);
    this.from.classList.toggle('bad', !(start >= 0));
    this.to.classList.toggle('bad', !(end > start));
    return start >= 0 && end > start ? [start, end] : null;
  }

  async save() {
    const span = this.stretched();
    if (!span) {
      this.note.textContent = 'Write the start and end as 1:02.5.';
      return;
    }
    this.saving.disabled = true;
    this.note.textContent = 'Cutting the stretch…';
    try {
      const found = await answered(
        `${this.entry.file.clip}?start=${span[0]}&end=${span[1]}`);
      const about = found.headers.get('content-disposition') || '';
      const name = decodeURIComponent(about.split("''")[1] || 'clip.mp4');
      const address = URL.createObjectURL(await found.blob());
      make('a', {href: address, download: name}).click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      this.note.textContent = `Saved as ${name}.`;
    } catch (error) {
      this.note.textContent = error.message;
    }
    this.saving.disabled = false;
  }

  async copy() {
    this.changed(this.entry, this.player.time);
    try {
      await navigator.clipboard.writeText(location.href);
      this.note.textContent = 'The link to this moment is copied.';
    } catch {
      // Only pages of https, or of this machine, may write the clipboard.
      this.note.replaceChildren('The link to this moment: ',
        make('a', {href: location.href}, location.href));
    }
  }

  async showSimilar() {
    const shown = this.others.childElementCount > 0;
    this.similar.setAttribute('aria-expanded', !shown);
    this.others.replaceChildren();
    if (shown) return;
    try {
      const id = encodeURIComponent(this.entry.video);
      const found = await fetched(`/api/videos/${id}/similar?k=${SIMILAR}`);
      const cards = found.hits.map((other) => small(other, () =>
        this.open({...other, moments: []}, 0)));
      this.others.replaceChildren(make('p', {className: 'note'},
        found.hits.length ? `Similar: ${found.note}.`
          : 'There is no other video.'),
      make('div', {className: 'cards'}, ...cards));
      this.others.scrollIntoView({behavior: 'smooth', block: 'nearest'});
    } catch (error) {
      this.others.replaceChildren(make('p', {className: 'note'},
        error.message));
    }
  }

  step(by) {
    const other = this.turn(this.entry, by);
    const best = other?.moments?.[0];
    if (other) this.open(other, best?.start ?? 0, best);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches('input')) return;
    const video = event.target.matches('video');
    const actions = {
      j: () => this.step(1), k: () => this.step(-1),
      s: () => this.showSimilar(),
      ArrowLeft: () => this.player.jump(-5),
      ArrowRight: () => this.player.jump(5),
      ' ': () => this.player.toggle(), Enter: () => this.player.toggle(),
    };
    this.chips.forEach((chip, i) => {
      actions[i + 1] = () => chip.click();
    });
    const pressed = event.target.matches('button') &&
      [' ', 'Enter'].includes(event.key);
    if (!actions[event.key] || pressed || (video && event.key === ' ')) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  closed() {
    this.player?.close();
    this.player = null;
    this.dialog.replaceChildren();
    this.changed(null);
  }
}

// A video as a card.
export function small(entry, open) {
  const box = make('button', {type: 'button', className: 'card',
    disabled: !entry.file, onclick: open});
  const frame = make('span', {className: 'poster'});
  if (entry.file) {
    frame.append(poster(entry.file, (entry.duration ?? 0) / 3), icon('play'));
  }
  if (entry.duration !== null) {
    frame.append(make('span', {className: 'time'},
      precise(entry.duration).replace(/\.\d$/, '')));
  }
  box.append(frame, make('span', {className: 'name'}, entry.title),
    make('span', {className: 'facts'},
      [entry.folder, entry.date].filter(Boolean).join(' · ')));
  return box;
}
