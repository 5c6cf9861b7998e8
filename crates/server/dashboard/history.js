// All uploads, a page at a time.

import * as api from './api.js';
import { buttons } from './actions.js';
import { announce } from './announce.js';
import { bytes, count, nameOf, pageOf, timeElement } from './format.js';
import { setName, stateName } from './row.js';
import * as selection from './selection.js';

/** Uploads per page. */
const PAGE_SIZE = 20;

/** Pause of typing that starts a search, in milliseconds. */
const DEBOUNCE = 250;

const part = (id) => document.getElementById(id);
const body = part('rows').tBodies[0];
const none = part('rows-none');

/** Cursors of the visited pages; the last one is shown. */
let cursors = [null];
let next = null;
let lastRequest = 0;
let debounceTimer;
/** The displayed content, to update only when it changes. */
let shown = '';

export function start() {
  part('search').addEventListener('submit', (event) => {
    event.preventDefault();
    restart();
  });
  part('query').addEventListener('input', () => {
    clearTimeout(debounceTimer);
    debounceTimer = setTimeout(restart, DEBOUNCE);
  });
  for (const id of ['state', 'from', 'to']) part(id).addEventListener('change', restart);
  selection.start(() => refresh(true));
  part('older').addEventListener('click', () => changePage(() => cursors.push(next)));
  part('newer').addEventListener('click', () => changePage(() => cursors.pop()));
}

/** Starts again from the first page. */
function restart() {
  clearTimeout(debounceTimer);
  cursors = [null];
  refresh(true).then(announceResult, showError);
}

/** Announces the result to screen readers. */
function announceResult() {
  const rows = body.rows.length;
  announce(rows === 0 ? none.textContent : `${count(rows, 'upload')}${next == null ? '' : ' on the first page'}.`);
}

async function changePage(step) {
  const pressed = document.activeElement;
  step();
  await refresh(true).catch(showError);
  // A disabled button would lose the focus.
  if (pressed.disabled) part(pressed.id === 'older' ? 'newer' : 'older').focus();
}

function showError(error) {
  shown = '';
  none.hidden = false;
  none.textContent = error.message;
}

/** Reloads the current page; other pages than the first only on request. */
export async function refresh(isRequested = false) {
  if (!isRequested && cursors.length > 1) return;
  lastRequest += 1;
  const request = lastRequest;
  const search = part('query').value.trim();
  const state = part('state').value;
  const [from, to] = [dayOf('from', 0), dayOf('to', 1)];
  const result = await api.uploads({ search, state, from, to, after: cursors.at(-1), limit: PAGE_SIZE });
  // A newer request was sent meanwhile.
  if (request !== lastRequest) return;
  next = result.next;
  const text = JSON.stringify([result, cursors.length, search, state, from, to]);
  if (text === shown) return;
  shown = text;
  const focused = document.activeElement.closest('#rows tr')?.dataset.id;
  body.replaceChildren(...result.uploads.map(row));
  selection.update(result.uploads);
  // A column with the same text in each row only takes space.
  for (const column of ['subject', 'node']) {
    const values = new Set(result.uploads.map((upload) => upload[column]));
    part('rows').classList.toggle(`same-${column}`, values.size < 2);
  }
  if (focused) (body.querySelector(`tr[data-id="${focused}"] a`) ?? part('history')).focus();
  part('rows').hidden = result.uploads.length === 0;
  none.hidden = result.uploads.length > 0;
  none.textContent = search || state || from || to ? 'No matching uploads.' : 'No uploads yet.';
  part('newer').disabled = cursors.length === 1;
  part('older').disabled = next == null;
  part('pages').hidden = cursors.length === 1 && next == null;
  const page = `Page ${cursors.length}`;
  if (part('page').textContent !== page) part('page').textContent = page;
}

/** The start of a chosen day, in local time, `after` days later. */
function dayOf(id, after) {
  if (part(id).value === '') return '';
  const when = new Date(`${part(id).value}T00:00`);
  when.setDate(when.getDate() + after);
  return when.toISOString();
}

function row(upload) {
  const element = document.createElement('tr');
  element.dataset.id = upload.id;
  const name = document.createElement('th');
  name.scope = 'row';
  const link = document.createElement('a');
  link.className = 'name';
  link.href = pageOf(upload);
  setName(link, nameOf(upload));
  link.dir = 'auto';
  name.append(link);
  if (upload.reason) name.append(span(upload.reason, 'reason'));
  const state = document.createElement('td');
  state.append(span(stateName(upload), 'badge'));
  state.dataset.label = 'State';
  element.dataset.state = upload.state;
  element.dataset.receiving = upload.receiving;
  const created = cell('Created', timeElement(upload.created_at));
  if (upload.ended_at) {
    const ended = span('ended ', 'ended');
    ended.append(timeElement(upload.ended_at));
    created.append(ended);
  }
  const actions = cell('Actions', '', 'actions');
  actions.append(...buttons(upload, () => refresh(true), showError));
  element.append(
    cell('Select', selection.checkbox(upload, nameOf(upload)), 'select'),
    name,
    cell('Principal', upload.subject ?? '–'),
    state,
    cell('Size', size(upload), 'number'),
    cell('Node', upload.node ?? '–'),
    created,
    actions,
  );
  return element;
}

function size({ size: whole, offset, state }) {
  if (whole == null) return offset > 0 ? `${bytes(offset)} so far` : 'unknown';
  return ['completed', 'removed'].includes(state) || offset === 0 ? bytes(whole) : `${bytes(offset)} of ${bytes(whole)}`;
}

function span(text, kind) {
  const element = document.createElement('span');
  element.className = kind;
  element.textContent = text;
  return element;
}

function cell(label, content, kind = '') {
  const element = document.createElement('td');
  element.dataset.label = label;
  if (kind) element.className = kind;
  element.append(content);
  return element;
}
