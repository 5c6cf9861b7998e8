// The view: updates the document and reports pressed buttons.

import { cutWidth } from './cut.js';
import { bytes, pace, percentage } from './format.js';
import { text } from './i18n.js';

/** Delay in which announcements are batched, in milliseconds. */
const DEBOUNCE = 900;

/** Maximum number of sentences per announcement. */
const MAX_SENTENCES = 3;

/** Actions of a row's buttons in each state, which are also the keys of their labels; `end` is right-aligned. */
const BUTTONS = {
  restoring: {},
  queued: { main: 'pause', end: 'cancel' },
  'in-other-tab': {},
  'needs-file': { main: 'choose_file', end: 'cancel' },
  'needs-permission': { main: 'resume', end: 'cancel' },
  rejected: { end: 'clear' },
  creating: { main: 'pause', second: 'disconnect', end: 'cancel' },
  checking: { main: 'pause', second: 'disconnect', end: 'cancel' },
  uploading: { main: 'pause', second: 'disconnect', end: 'cancel' },
  waiting: { main: 'pause', second: 'retry_now', end: 'cancel' },
  paused: { main: 'continue', end: 'cancel' },
  failed: { main: 'retry', end: 'cancel' },
  removing: { end: 'clear' },
  done: { end: 'clear' },
};

/**
 * A name in two parts: the first one is cut if there is too little space, so that the extension stays. No emoji is divided.
 */
const NAME = /^(.*?)(?<!\u200d)((?:(?![\u200d\p{M}\p{Emoji_Modifier}])\S.{0,5})?(?:\.[^.]{1,10})?)$/su;

const byId = (id) => document.getElementById(id);

/** Returns whether the row of an upload is a low one, with its buttons at the side: there is no progress to show. */
export function isCompact({ state, sent }) {
  return ['done', 'queued', 'rejected'].includes(state) || (['failed', 'paused'].includes(state) && sent === 0);
}

/** Whether the page shows how an upload resumes: a button closes the connection. */
const isDemo = new URLSearchParams(location.search).has('demo');

/** One upload in the list. */
export class Row {
  #parts = {};
  /** Width for the first part of the name, as last fitted. */
  #room = -1;
  #actions = {};

  /**
   * @param {import('./item.js').Item} item
   * @param {boolean} downloadable
   * @param {(action: string) => void} onAction
   */
  constructor({ record, label }, downloadable, onAction) {
    this.element = byId('row').content.firstElementChild.cloneNode(true);
    for (const part of ['figure', 'folder', 'file', 'stem', 'tail', 'name', 'status']) this.#parts[part] = this.element.querySelector(`.${part}`);
    this.#parts.progress = this.element.querySelector('progress');
    this.#parts.folder.textContent = label.slice(0, label.length - record.name.length);
    [, this.#parts.stem.textContent, this.#parts.tail.textContent] = NAME.exec(record.name) ?? ['', record.name, ''];
    this.#parts.name.title = label;
    this.#parts.name.setAttribute('aria-label', label);
    this.#parts.progress.setAttribute('aria-label', label);
    for (const target of this.element.querySelectorAll('.of')) target.textContent = ` ${label}`;
    for (const action of this.element.querySelectorAll('[data-action]')) {
      this.#actions[action.dataset.action] = action;
      if (action.matches('button')) action.addEventListener('click', () => onAction(action.value));
    }
    for (const element of this.element.querySelectorAll('[data-text]')) element.textContent = text(element.dataset.text);
    this.#actions.copy.value = 'copy_link';
    this.#actions.copy.title = text('copy_link');
    this.downloadable = downloadable;
  }

  /** @param {ReturnType<import('./item.js').Item['snapshot']>} snapshot */
  update(snapshot) {
    const { state, sent, size, url } = snapshot;
    const focused = this.element.contains(document.activeElement);
    const isLow = isCompact(snapshot);
    this.element.dataset.state = state;
    this.element.classList.toggle('compact', isLow);
    this.#show(this.#parts.figure, isLow ? '' : percentage(sent, size));
    this.#parts.progress.value = size === 0 ? Number(state === 'done') : sent / size;
    this.#parts.progress.hidden = isLow;
    this.#show(this.#parts.status, statusOf(snapshot, this.downloadable));
    for (const slot of ['main', 'second', 'end']) this.#label(this.#actions[slot], BUTTONS[state][slot]);
    const linked = state === 'done' && this.downloadable;
    this.#actions.download.hidden = this.#actions.copy.hidden = !linked;
    if (linked) {
      this.#actions.download.href = url;
      this.#actions.download.download = snapshot.name;
    }
    // In Firefox, a hidden button has the focus until the next frame.
    const active = document.activeElement;
    if (focused && (active?.hidden || !this.element.contains(active))) this.focus();
  }

  /** Cuts the name if it is wider than the row. Reads the layout only; the result makes the change. */
  fit() {
    const { file, stem, tail } = this.#parts;
    const room = Math.max(0, file.getBoundingClientRect().width - tail.getBoundingClientRect().width);
    if (room === this.#room) return () => {};
    this.#room = room;
    const cut = cutWidth(stem, room);
    return () => { stem.style.width = cut === null ? '' : `${cut}px`; };
  }

  /** Sets the position in the list for assistive technology; other rows may not be in the document. */
  setPosition(position, total) {
    this.element.setAttribute('aria-posinset', position);
    this.element.setAttribute('aria-setsize', total);
  }

  /** Focuses the first visible action, else the name. */
  focus() {
    const first = Object.values(this.#actions).find((action) => !action.hidden);
    (first ?? this.#parts.name).focus();
  }

  #label(button, action) {
    button.hidden = !action || (action === 'disconnect' && !isDemo);
    if (button.hidden) return;
    button.value = action;
    button.title = text(action === 'disconnect' ? 'disconnect_hint' : action);
    this.#show(button.querySelector('.label'), text(action));
  }

  /** Updates only changed texts, since rewriting them moves the cursor of some screen readers. */
  #show(element, content) {
    if (element.textContent !== content) element.textContent = content;
  }
}

function statusOf({ state, sent, size, rate, message, retryAt, label, isOffline }, downloadable) {
  const amount = text('amount', { sent: bytes(sent), size: bytes(size) });
  const sentences = (...parts) => parts.filter(Boolean).join(' ');
  const list = (...parts) => parts.join(' · ');
  // The next attempt has no response yet.
  if (isOffline && state !== 'waiting') return sentences(text('error_connection'), text('status_retry_now'), text('status_so_far', { amount }));
  switch (state) {
    case 'restoring': return text('status_restoring');
    case 'queued': return list(text('status_queued'), bytes(size));
    case 'in-other-tab': return text('status_in_other_tab');
    case 'needs-file': return sentences(message, text('status_needs_file', { amount, name: label }));
    case 'needs-permission': return sentences(message, text('status_needs_permission', { amount }));
    case 'creating': return list(text('status_creating'), bytes(size));
    case 'checking': return text('status_checking');
    case 'uploading': return list(amount, ...pace(size - sent, rate));
    case 'waiting': {
      const count = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      const when = count > 0 ? text('status_retry_in', { count }) : text('status_retry_now');
      return sentences(message, when, text('status_so_far', { amount }));
    }
    case 'paused': return list(text('status_paused'), amount);
    case 'failed': case 'rejected': return message;
    case 'removing': return text('status_removing');
    case 'done': return list(text(downloadable ? 'status_done' : 'status_stored'), bytes(size));
    default: return '';
  }
}

let pending = [];
let timer = 0;

/** Announces a sentence to screen readers, batched with others. */
export function announce(sentence) {
  pending.push(sentence);
  clearTimeout(timer);
  timer = setTimeout(() => {
    const more = pending.length - MAX_SENTENCES;
    const heard = pending.slice(0, MAX_SENTENCES).join(' ');
    byId('announcer').textContent = more > 0 ? `${heard} ${text('and_more', { count: more })}` : heard;
    pending = [];
  }, DEBOUNCE);
}

/**
 * Shows and announces a note; an empty one hides it.
 *
 * @param {string} sentence
 * @param {{ label: string, run: () => void }} [action] of a button in the note
 */
export function showNote(sentence, action) {
  byId('note-text').textContent = sentence;
  byId('note').hidden = sentence === '';
  const button = byId('note-action');
  button.hidden = !action;
  button.textContent = action?.label ?? '';
  button.onclick = action?.run ?? null;
  if (sentence) announce(sentence);
}

/** Shows the endpoint and the size limit. */
export function showSettings({ endpoint, maxSize }) {
  for (const element of document.querySelectorAll('.endpoint')) element.textContent = endpoint;
  byId('limit').hidden = maxSize === null;
  if (maxSize !== null) byId('limit').textContent = ` ${text('limit', { size: bytes(maxSize) })}`;
}

/** Copies a text, also in an insecure context, which has no clipboard API. */
export async function copyText(content) {
  try {
    await navigator.clipboard.writeText(content);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = document.createElement('textarea');
    area.value = content;
    area.className = 'visually-hidden';
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return copied;
  }
}
