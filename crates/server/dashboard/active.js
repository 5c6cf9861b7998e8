// The active uploads.

import * as api from './api.js';
import { cancel } from './actions.js';
import { announce } from './announce.js';
import { count, nameOf } from './format.js';
import { createRow, setText, stateName, updateRow } from './row.js';

/** Maximum number of uploads in the list. */
const MAX_ROWS = 100;

/** Time for which an ended upload stays in the list, in milliseconds. */
const LINGER = 4000;

const list = document.getElementById('live');
const empty = document.getElementById('live-none');
const summary = document.getElementById('live-summary');

/** Uploads in the list, by id: `{ element, upload, leaving }`. */
const shown = new Map();
let hasMore = false;
/** Counts changes by events, so that an older response does not undo them. */
let changes = 0;

const isActive = ({ state }) => state === 'started' || state === 'progress';

export function start() {
  const all = document.getElementById('live-all');
  all.addEventListener('click', () => {
    const isWhole = list.classList.toggle('whole');
    all.setAttribute('aria-expanded', isWhole);
    setText(all, isWhole ? 'Show fewer' : 'Show all');
  });
}

/** Loads all active uploads. */
export async function refresh() {
  const before = changes;
  const { uploads, next } = await api.uploads({ state: 'started,progress', limit: MAX_ROWS });
  hasMore = next != null;
  if (before === changes) {
    const ids = new Set(uploads.map(({ id }) => id));
    for (const [id, entry] of shown) if (!ids.has(id) && !entry.leaving) remove(id);
  }
  // Oldest first, since each new one is prepended.
  for (const upload of uploads.reverse()) show(upload);
  updateSummary();
}

/** Applies an event. */
export function apply({ type, upload }) {
  changes += 1;
  if (isActive(upload)) {
    show(upload);
  } else {
    end(type, upload);
  }
  updateSummary();
}

function show(upload) {
  const entry = shown.get(upload.id);
  if (entry === undefined) {
    if (shown.size >= MAX_ROWS) {
      hasMore = true;
      return;
    }
    const element = createRow(upload, stop);
    list.prepend(element);
    shown.set(upload.id, { element, upload, leaving: false });
  } else if (!entry.leaving && upload.offset >= entry.upload.offset) {
    entry.upload = upload;
    updateRow(entry.element, upload);
  }
}

function end(type, upload) {
  const entry = shown.get(upload.id);
  if (entry?.leaving) return;
  const reason = upload.reason ? `: ${upload.reason}` : '';
  if (type !== 'UploadExpired') announce(`${nameOf(upload)}: ${stateName(upload).toLowerCase()}${reason}.`);
  if (entry === undefined) return;
  entry.leaving = true;
  entry.upload = upload;
  updateRow(entry.element, upload);
  entry.element.querySelector('.stop').hidden = true;
  setTimeout(() => {
    remove(upload.id);
    updateSummary();
  }, LINGER);
}

function remove(id) {
  const { element } = shown.get(id) ?? {};
  shown.delete(id);
  if (element === undefined) return;
  if (element.contains(document.activeElement)) {
    const near = element.nextElementSibling ?? element.previousElementSibling;
    (near?.querySelector('.name a') ?? document.getElementById('active')).focus();
  }
  element.remove();
}

function updateSummary() {
  empty.hidden = shown.size > 0;
  const more = hasMore ? `The newest ${shown.size}; all uploads are listed below` : count(shown.size, 'upload');
  setText(summary, shown.size === 0 ? '' : more);
}

async function stop(id) {
  const entry = shown.get(id);
  if (entry === undefined) return;
  try {
    const ended = await cancel(entry.upload);
    if (ended === undefined) return;
    apply({ type: 'UploadCancelled', upload: ended });
    shown.get(id)?.element.querySelector('.name a').focus();
  } catch (error) {
    announce(error.message);
    setText(entry.element.querySelector('.figures'), error.message);
  }
}
