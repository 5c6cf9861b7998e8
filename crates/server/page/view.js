// The view: updates the document and reports pressed buttons.

import { bytes, percent, plural, timeLeft } from './format.js';

/** Delay in which announcements are batched, in milliseconds. */
const DEBOUNCE = 900;

/** Maximum number of sentences per announcement. */
const MAX_SENTENCES = 3;

/** Labels and actions of a row's buttons in each state; `end` is right-aligned. */
const BUTTONS = {
  restoring: {},
  queued: { main: ['Pause', 'pause'], end: ['Cancel', 'remove'] },
  'in-other-tab': {},
  'needs-file': { main: ['Choose file', 'choose-again'], end: ['Cancel', 'remove'] },
  'needs-permission': { main: ['Resume', 'resume'], end: ['Cancel', 'remove'] },
  rejected: { end: ['Clear', 'clear'] },
  idle: {},
  creating: { main: ['Pause', 'pause'], second: ['Disconnect', 'disconnect'], end: ['Cancel', 'remove'] },
  checking: { main: ['Pause', 'pause'], second: ['Disconnect', 'disconnect'], end: ['Cancel', 'remove'] },
  uploading: { main: ['Pause', 'pause'], second: ['Disconnect', 'disconnect'], end: ['Cancel', 'remove'] },
  waiting: { main: ['Pause', 'pause'], second: ['Retry now', 'retry-now'], end: ['Cancel', 'remove'] },
  paused: { main: ['Continue', 'start'], end: ['Cancel', 'remove'] },
  failed: { main: ['Retry', 'start'], end: ['Cancel', 'remove'] },
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
    for (const target of this.element.querySelectorAll('.of')) target.textContent = ` ${name}`;
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
    this.#show(this.#parts.figure, state === 'rejected' ? '' : `${percent(sent, size)} %`);
    this.#parts.progress.value = size === 0 ? Number(state === 'done') : sent / size;
    this.#parts.progress.hidden = state === 'rejected';
    this.#show(this.#parts.status, statusOf(snapshot, this.downloadable));
    for (const slot of ['main', 'second', 'end']) this.#label(this.#actions[slot], BUTTONS[state][slot]);
    this.#actions.second.title = state === 'waiting' ? '' : 'Drop the connection to test resuming';
    const linked = state === 'done' && this.downloadable;
    this.#actions.download.hidden = this.#actions.copy.hidden = !linked;
    if (linked) {
      this.#actions.download.href = url;
      this.#actions.download.download = snapshot.name;
    }
    if (focused && document.activeElement?.closest('.upload') !== this.element) this.focus();
  }

  /** Focuses the first visible action, else the name. */
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

  /** Updates only changed texts, since rewriting them moves the cursor of some screen readers. */
  #show(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
}

function statusOf({ state, sent, size, rate, message, retryAt, name }, downloadable) {
  const amount = `${bytes(sent)} of ${bytes(size)}`;
  const prefix = message && `${message} `;
  switch (state) {
    case 'restoring': return 'Restoring…';
    case 'queued': return `Waiting for its turn · ${bytes(size)}`;
    case 'in-other-tab': return 'Another tab is uploading this. It resumes here if that tab is closed.';
    case 'needs-file': return `${prefix}${amount} are on the server. Choose or drop “${name}” again to send the rest.`;
    case 'needs-permission': return `${prefix}${amount} are on the server. Press Resume to send the rest.`;
    case 'creating': return `Starting… · ${bytes(size)}`;
    case 'checking': return 'Checking the offset…';
    case 'uploading': return [amount, ...pace(size - sent, rate)].join(' · ');
    case 'waiting': {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      const when = seconds > 0 ? `in ${plural(seconds, 'second')}` : 'now';
      return `${message} Retrying ${when}. ${amount} so far.`;
    }
    case 'paused': return `Paused · ${amount}`;
    case 'failed': case 'rejected': return message;
    case 'removing': return 'Cancelling…';
    case 'done': return `${downloadable ? 'Uploaded' : 'Uploaded and stored on the server'} · ${bytes(size)}`;
    default: return '';
  }
}

function pace(left, rate) {
  if (rate === null) return [];
  if (left === 0) return ['finishing'];
  const speed = `${bytes(Math.round(rate))}/s`;
  return rate < 1 ? [speed] : [speed, `${timeLeft(left / rate)} left`];
}

/** Updates the summary above the list and the title of the tab. */
export function showOverall(snapshots) {
  const real = snapshots.filter(({ state }) => state !== 'rejected');
  const count = (...states) => real.filter(({ state }) => states.includes(state)).length;
  const done = count('done');
  const running = real.filter(({ state }) => ['queued', 'creating', 'checking', 'uploading', 'waiting'].includes(state));
  const rates = running.map(({ rate }) => rate).filter((rate) => rate !== null);
  const rate = rates.length > 0 ? rates.reduce((sum, each) => sum + each, 0) : null;
  const left = running.reduce((sum, { size, sent }) => sum + size - sent, 0);
  const paused = count('paused');
  const blocked = count('needs-file', 'needs-permission');
  const failed = count('failed');
  const parts = [
    real.length === 0 ? '' : `${done} of ${plural(real.length, 'file')} uploaded`,
    running.length > 0 ? `${running.length} running` : '',
    paused > 0 ? `${paused} paused` : '',
    blocked > 0 ? `${blocked} waiting for you` : '',
    failed > 0 ? `${failed} failed` : '',
    ...(running.length > 0 ? pace(left, rate) : []),
  ].filter(Boolean);
  const line = byId('overall');
  if (line.textContent !== parts.join(' · ')) line.textContent = parts.join(' · ');

  const total = running.reduce((sum, { size }) => sum + size, 0);
  document.title = running.length > 0 ? `${percent(total - left, total)} % – Landfall` : 'Landfall';
  byId('list-section').hidden = snapshots.length === 0;
  byId('clear').hidden = done === 0;
}

let pending = [];
let timer = 0;

/** Announces a sentence to screen readers, batched with others. */
export function announce(sentence) {
  pending.push(sentence);
  clearTimeout(timer);
  timer = setTimeout(() => {
    const more = pending.length - MAX_SENTENCES;
    const text = pending.slice(0, MAX_SENTENCES).join(' ');
    byId('announcer').textContent = more > 0 ? `${text} And ${more} more.` : text;
    pending = [];
  }, DEBOUNCE);
}

/** Shows and announces a note; an empty text hides it. */
export function showNote(text) {
  byId('note').textContent = text;
  byId('note').hidden = text === '';
  if (text) announce(text);
}

/** Shows the endpoint and the size limit. */
export function showSettings({ endpoint, maxSize }) {
  for (const element of document.querySelectorAll('.endpoint')) element.textContent = endpoint;
  byId('limit').hidden = maxSize === null;
  if (maxSize !== null) byId('limit').textContent = ` Up to ${bytes(maxSize)} per file.`;
}

/** Copies a text, also in an insecure context, which has no clipboard API. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'visually-hidden';
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return copied;
  }
}
