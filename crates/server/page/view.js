// All that touches the document. It shows what it is told and reports what was pressed.

import { bytes, percent, plural, timeLeft } from './format.js';

/** For how long announcements gather before they are read out, in milliseconds. */
const GATHER = 900;

/** Most sentences read out at a time. */
const MAX_SENTENCES = 3;

/** What the buttons of a row do in each state; `end` is the one at the far side. */
const BUTTONS = {
  finding: {},
  queued: { main: ['Pause', 'pause'], end: ['Cancel', 'remove'] },
  elsewhere: {},
  'needs-file': { main: ['Choose file', 'choose-again'], end: ['Cancel', 'remove'] },
  'needs-leave': { main: ['Resume', 'resume'], end: ['Cancel', 'remove'] },
  refused: { end: ['Clear', 'clear'] },
  idle: {},
  creating: { main: ['Pause', 'pause'], second: ['Cut', 'cut'], end: ['Cancel', 'remove'] },
  checking: { main: ['Pause', 'pause'], second: ['Cut', 'cut'], end: ['Cancel', 'remove'] },
  uploading: { main: ['Pause', 'pause'], second: ['Cut', 'cut'], end: ['Cancel', 'remove'] },
  waiting: { main: ['Pause', 'pause'], second: ['Try now', 'retry-now'], end: ['Cancel', 'remove'] },
  paused: { main: ['Continue', 'start'], end: ['Cancel', 'remove'] },
  failed: { main: ['Try again', 'start'], end: ['Cancel', 'remove'] },
  removing: {},
  done: { end: ['Clear', 'clear'] },
};

const byId = (id) => document.getElementById(id);

/** One upload in the list. */
export class Row {
  #parts = {};
  #actions = {};

  /**
   * @param {string} name
   * @param {boolean} downloadable
   * @param {(action: string) => void} onAction
   */
  constructor(name, downloadable, onAction) {
    this.element = byId('row').content.firstElementChild.cloneNode(true);
    for (const part of ['name', 'figure', 'status']) this.#parts[part] = this.element.querySelector(`.${part}`);
    this.#parts.progress = this.element.querySelector('progress');
    this.#parts.name.textContent = name;
    this.#parts.progress.setAttribute('aria-label', name);
    for (const of of this.element.querySelectorAll('.of')) of.textContent = ` ${name}`;
    for (const action of this.element.querySelectorAll('[data-action]')) {
      this.#actions[action.dataset.action] = action;
      if (action.matches('button')) action.addEventListener('click', () => onAction(action.value));
    }
    this.#actions.copy.value = 'copy';
    this.downloadable = downloadable;
  }

  /** @param {ReturnType<import('./item.js').Item['snapshot']>} snapshot */
  update(snapshot) {
    const { state, sent, size, url } = snapshot;
    const focused = this.element.contains(document.activeElement);
    this.element.dataset.state = state;
    this.#show(this.#parts.figure, state === 'refused' ? '' : `${percent(sent, size)} %`);
    this.#parts.progress.value = size === 0 ? Number(state === 'done') : sent / size;
    this.#parts.progress.hidden = state === 'refused';
    this.#show(this.#parts.status, statusOf(snapshot, this.downloadable));
    for (const place of ['main', 'second', 'end']) this.#label(this.#actions[place], BUTTONS[state][place]);
    if (state === 'waiting') this.#actions.second.removeAttribute('aria-describedby');
    else this.#actions.second.setAttribute('aria-describedby', 'cut-hint');
    const linked = state === 'done' && this.downloadable;
    this.#actions.download.hidden = this.#actions.copy.hidden = !linked;
    if (linked) {
      this.#actions.download.href = url;
      this.#actions.download.download = snapshot.name;
    }
    if (focused && document.activeElement?.closest('.upload') !== this.element) this.focus();
  }

  /** Puts the focus on the first thing that can be pressed, else on the name. */
  focus() {
    const first = Object.values(this.#actions).find((action) => !action.hidden);
    (first ?? this.#parts.name).focus();
  }

  #label(button, [label, action] = []) {
    button.hidden = !label;
    if (!label) return;
    button.value = action;
    this.#show(button.querySelector('.label'), label);
  }

  /** Writing what is there already would make some screen readers lose their place. */
  #show(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
}

function statusOf({ state, sent, size, rate, message, retryAt, name }, downloadable) {
  const amount = `${bytes(sent)} of ${bytes(size)}`;
  const said = message && `${message} `;
  switch (state) {
    case 'finding': return 'Looking for what was left here…';
    case 'queued': return `Waiting for its turn · ${bytes(size)}`;
    case 'elsewhere': return 'Another tab is uploading this. It goes on here if that tab is closed.';
    case 'needs-file': return `${said}${amount} are on the server. Choose or drop “${name}” again to send the rest.`;
    case 'needs-leave': return `${said}${amount} are on the server. Press Resume to send the rest.`;
    case 'creating': return `Starting… · ${bytes(size)}`;
    case 'checking': return 'Asking the server how much it has…';
    case 'uploading': return [amount, ...pace(size - sent, rate)].join(' · ');
    case 'waiting': {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      const when = seconds > 0 ? `in ${plural(seconds, 'second')}` : 'now';
      return `${message} Trying again ${when}. ${amount} so far.`;
    }
    case 'paused': return `Paused · ${amount}`;
    case 'failed': case 'refused': return message;
    case 'removing': return 'Cancelling…';
    case 'done': return `${downloadable ? 'Uploaded' : 'Uploaded and safe on the server'} · ${bytes(size)}`;
    default: return '';
  }
}

function pace(left, rate) {
  if (rate === null) return [];
  if (left === 0) return ['finishing'];
  const speed = `${bytes(Math.round(rate))}/s`;
  return rate < 1 ? [speed] : [speed, `${timeLeft(left / rate)} left`];
}

/** The line above the list, and the title of the tab. */
export function showOverall(snapshots) {
  const real = snapshots.filter(({ state }) => state !== 'refused');
  const count = (...states) => real.filter(({ state }) => states.includes(state)).length;
  const done = count('done');
  const moving = real.filter(({ state }) => ['queued', 'creating', 'checking', 'uploading', 'waiting'].includes(state));
  const rates = moving.map(({ rate }) => rate).filter((rate) => rate !== null);
  const rate = rates.length > 0 ? rates.reduce((sum, each) => sum + each, 0) : null;
  const left = moving.reduce((sum, { size, sent }) => sum + size - sent, 0);
  const paused = count('paused');
  const asking = count('needs-file', 'needs-leave');
  const failed = count('failed');
  const words = [
    real.length === 0 ? '' : `${done} of ${plural(real.length, 'file')} uploaded`,
    moving.length > 0 ? `${moving.length} under way` : '',
    paused > 0 ? `${paused} paused` : '',
    asking > 0 ? `${asking} waiting for you` : '',
    failed > 0 ? `${failed} failed` : '',
    ...(moving.length > 0 ? pace(left, rate) : []),
  ].filter(Boolean);
  const line = byId('overall');
  if (line.textContent !== words.join(' · ')) line.textContent = words.join(' · ');

  const total = moving.reduce((sum, { size }) => sum + size, 0);
  document.title = moving.length > 0 ? `${percent(total - left, total)} % – Landfall` : 'Landfall';
  byId('list-section').hidden = snapshots.length === 0;
  byId('clear').hidden = done === 0;
}

let gathered = [];
let gathering = 0;

/** Has screen readers say something soon, together with what else happens meanwhile. */
export function announce(sentence) {
  gathered.push(sentence);
  clearTimeout(gathering);
  gathering = setTimeout(() => {
    const more = gathered.length - MAX_SENTENCES;
    const said = gathered.slice(0, MAX_SENTENCES).join(' ');
    byId('announcer').textContent = more > 0 ? `${said} And ${more} more.` : said;
    gathered = [];
  }, GATHER);
}

/** Says something to everybody; an empty text takes it away. */
export function showNote(text) {
  byId('note').textContent = text;
  byId('note').hidden = text === '';
  if (text) announce(text);
}

/** Puts the real endpoint and limit into the page. */
export function showSettings({ endpoint, maxSize }) {
  for (const place of document.querySelectorAll('.endpoint')) place.textContent = endpoint;
  byId('limit').hidden = maxSize === null;
  if (maxSize !== null) byId('limit').textContent = ` Up to ${bytes(maxSize)} for each file.`;
}

/** Copies, also where the page isn't secure and the clipboard's own interface is missing. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'unseen';
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return copied;
  }
}
