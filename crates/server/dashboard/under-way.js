// The uploads that are under way.

import * as api from './api.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { STATES, bytes, nameOf, some } from './format.js';
import { row, say, update } from './row.js';

/** Uploads that are shown, at most. */
const MOST = 100;

/** How long one that has ended is still shown, in milliseconds. */
const FAREWELL = 4000;

const list = document.getElementById('live');
const nobody = document.getElementById('live-none');
const words = document.getElementById('live-words');

/** What is shown, by id: `{ element, upload, leaving }`. */
const shown = new Map();
let hasMore = false;
/** Grows with every change by an event, so that an older list doesn't undo it. */
let changes = 0;

const isLive = ({ state }) => state === 'started' || state === 'progress';

/** Asks the server for all of them. */
export async function refresh() {
  const before = changes;
  const { uploads, next } = await api.uploads({ state: 'started,progress', limit: MOST });
  hasMore = next != null;
  if (before === changes) {
    const ids = new Set(uploads.map(({ id }) => id));
    for (const [id, entry] of shown) if (!ids.has(id) && !entry.leaving) remove(id);
  }
  // Oldest first, so that each new one comes to stand at the top.
  for (const upload of uploads.reverse()) show(upload);
  sum();
}

/** Takes in what an event says. */
export function follow({ type, upload }) {
  changes += 1;
  if (isLive(upload)) {
    show(upload);
  } else {
    end(type, upload);
  }
  sum();
}

function show(upload) {
  const entry = shown.get(upload.id);
  if (entry === undefined) {
    if (shown.size >= MOST) {
      hasMore = true;
      return;
    }
    const element = row(upload, stop);
    list.prepend(element);
    shown.set(upload.id, { element, upload, leaving: false });
  } else if (!entry.leaving && upload.offset >= entry.upload.offset) {
    entry.upload = upload;
    update(entry.element, upload);
  }
}

function end(type, upload) {
  const entry = shown.get(upload.id);
  if (entry?.leaving) return;
  const reason = upload.reason ? `: ${upload.reason}` : '';
  if (type !== 'UploadExpired') announce(`${nameOf(upload)}: ${STATES[upload.state].toLowerCase()}${reason}.`);
  if (entry === undefined) return;
  entry.leaving = true;
  entry.upload = upload;
  update(entry.element, upload);
  entry.element.querySelector('.stop').hidden = true;
  setTimeout(() => {
    remove(upload.id);
    sum();
  }, FAREWELL);
}

function remove(id) {
  const { element } = shown.get(id) ?? {};
  shown.delete(id);
  if (element === undefined) return;
  if (element.contains(document.activeElement)) {
    const near = element.nextElementSibling ?? element.previousElementSibling;
    (near?.querySelector('.name') ?? document.getElementById('under-way')).focus();
  }
  element.remove();
}

function sum() {
  nobody.hidden = shown.size > 0;
  const more = hasMore ? `The newest ${shown.size}; all of them are below` : some(shown.size, 'upload');
  say(words, shown.size === 0 ? '' : more);
}

async function stop(id) {
  const entry = shown.get(id);
  if (entry === undefined) return;
  const { upload } = entry;
  const sure = await confirm({
    title: 'Cancel this upload?',
    words: `${nameOf(upload)}${upload.subject === null ? '' : ` of ${upload.subject}`}: the transfer stops, and the ${bytes(upload.offset)} that were received are deleted.`,
    yes: 'Cancel the upload',
    no: 'Let it run',
  });
  if (!sure) return;
  try {
    const ended = await api.cancel(id);
    follow({ type: 'UploadCancelled', upload: ended });
    shown.get(id)?.element.querySelector('.name').focus();
  } catch (error) {
    announce(error.message);
    say(entry.element.querySelector('.figures'), error.message);
  }
}
