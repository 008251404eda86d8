// A video that plays in any browser: the file itself, or what the server makes
// of it.

import {fetched, make, thumbnail} from '/page/tools.js';

// Firefox sets its clock to 0 at the start of some kinds of file.
const rebases = CSS.supports('-moz-appearance', 'none');
const known = new Map();

function playingOf(file) {
  if (!known.has(file.playing)) {
    const found = fetched(file.playing);
    known.set(file.playing, found);
    found.catch(() => known.delete(file.playing));
  }
  return known.get(file.playing);
}

export class Player {
  constructor(file, onTime = () => {}) {
    this.file = file;
    this.onTime = onTime;
    this.at = 0;
    this.stop = null;
    this.mode = '';
    this.piece = -1;
    this.video = make('video', {className: 'screen', controls: true,
      playsInline: true, preload: 'auto'});
    this.note = make('p', {className: 'note', hidden: true});
    this.wait = make('p', {className: 'wait', hidden: true},
      'Preparing the video for this browser…');
    this.box = make('div', {className: 'player'},
      make('div', {className: 'stage'}, this.video, this.wait), this.note);
    this.video.addEventListener('error', () => this.fail());
    this.video.addEventListener('timeupdate', () => this.tick());
    this.video.addEventListener('ended', () => this.next());
    for (const name of ['loadeddata', 'playing']) {
      this.video.addEventListener(name, () => {
        this.wait.hidden = true;
      });
    }
    this.ready = this.choose();
  }

  // Decide whether the browser plays the file itself.
  async choose() {
    this.facts = {start: 0, duration: 0, copied: false, piece_seconds: 60,
      plays: 'maybe', type: ''};
    try {
      this.facts = await playingOf(this.file);
    } catch {
      // The browser may still play it.
    }
    const {plays, type} = this.facts;
    const able = plays === 'yes' || (plays === 'maybe' &&
      (!type || this.video.canPlayType(type) !== ''));
    this.mode = able ? 'file' : this.converted();
  }

  converted() {
    return this.facts.copied && this.mode !== 'whole' ? 'whole' : 'pieces';
  }

  get origin() {
    if (this.mode === 'pieces') return -this.piece * this.facts.piece_seconds;
    if (this.mode === 'whole') return 0;
    const moved = rebases && /webm|matroska/.test(this.file.media_type);
    return moved ? 0 : this.facts.start;
  }

  // Second of the whole file.
  get time() {
    if (!this.video.readyState) return this.at;
    return Math.max(this.video.currentTime - this.origin, 0);
  }

  // Show a place; with an end, playing stops there.
  async show(seconds, end = null) {
    this.at = seconds;
    this.stop = end;
    this.video.poster = thumbnail(this.file, seconds);
    await this.ready;
    if (this.at === seconds) this.load(seconds);
  }

  async play(seconds, end = null) {
    await this.show(seconds, end);
    // A failure has its own event, and a replaced video is none.
    this.video.play().catch(() => {});
  }

  // Play on from a place.
  seek(seconds) {
    return this.play(seconds);
  }

  load(seconds) {
    const {piece_seconds: length} = this.facts;
    const piece = this.mode === 'pieces' ? Math.floor(seconds / length) : 0;
    const source = {
      file: this.file.url,
      whole: this.file.converted,
      pieces: `${this.file.converted}?piece=${piece}`,
    }[this.mode];
    const go = () => {
      this.video.currentTime = seconds + this.origin;
    };
    if (source !== this.source) {
      this.source = source;
      this.piece = piece;
      this.video.src = source;
      if (this.mode !== 'file') this.wait.hidden = false;
      this.video.addEventListener('loadedmetadata', go, {once: true});
    } else if (this.video.readyState) {
      go();
    }
  }

  tick() {
    const seconds = this.time;
    this.at = seconds;
    this.onTime(seconds);
    if (this.stop !== null && seconds >= this.stop) {
      this.stop = null;
      this.video.pause();
    }
    if (this.mode === 'pieces' && this.asked !== this.piece && !this.last()) {
      // Have the next piece made while this one plays.
      this.asked = this.piece;
      fetch(`${this.file.converted}?piece=${this.piece + 1}`,
        {method: 'HEAD'}).catch(() => {});
    }
  }

  last() {
    const end = (this.piece + 1) * this.facts.piece_seconds;
    return this.facts.duration > 0 && end >= this.facts.duration;
  }

  next() {
    if (this.mode !== 'pieces' || this.last()) return;
    this.play((this.piece + 1) * this.facts.piece_seconds, this.stop);
  }

  fail() {
    if (!this.source) return;
    this.wait.hidden = true;
    const playing = !this.video.paused;
    this.source = null;
    if (this.mode === 'pieces') {
      this.tell();
      return;
    }
    this.mode = this.mode === 'file' ? this.converted() : 'pieces';
    if (playing) this.play(this.at, this.stop);
    else this.show(this.at, this.stop);
  }

  tell() {
    this.video.removeAttribute('src');
    const link = make('a', {href: this.file.url, download: ''},
      'Save the file');
    this.note.replaceChildren('This video cannot be played here. ', link);
    this.note.hidden = false;
  }

  toggle() {
    if (!this.video.paused) this.video.pause();
    else this.video.play().catch(() => {});
  }

  jump(by) {
    this.seek(Math.max(this.time + by, 0));
  }

  close() {
    this.source = null;
    this.video.pause();
    this.video.removeAttribute('src');
    this.video.load();
  }
}
