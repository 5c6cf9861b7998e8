// All uploads, a page at a time.

import * as api from './api.js';
import { announce } from './announce.js';
import { STATES, bytes, nameOf, some, timeOf, whoOf } from './format.js';

/** Uploads on a page. */
const PAGE = 20;

/** How long typing must pause before it is looked for, in milliseconds. */
const PAUSE = 250;

const part = (id) => document.getElementById(id);
const body = part('rows').tBodies[0];
const none = part('rows-none');

/** Where each page that was seen begins; the last one is shown. */
let begins = [null];
let next = null;
let asked = 0;
let pause;
/** What is shown, so that what stays the same is left alone. */
let shown = '';

export function start() {
  part('search').addEventListener('submit', (event) => {
    event.preventDefault();
    again();
  });
  part('words').addEventListener('input', () => {
    clearTimeout(pause);
    pause = setTimeout(again, PAUSE);
  });
  part('state').addEventListener('change', again);
  part('older').addEventListener('click', () => turn(() => begins.push(next)));
  part('newer').addEventListener('click', () => turn(() => begins.pop()));
}

/** From the first page on. */
function again() {
  clearTimeout(pause);
  begins = [null];
  refresh(true).then(tell, failed);
}

/** What was found, for those who don't see it. */
function tell() {
  const count = body.rows.length;
  announce(count === 0 ? none.textContent : `${some(count, 'upload')}${next == null ? '' : ' on the first page'}.`);
}

async function turn(step) {
  const pressed = document.activeElement;
  step();
  await refresh(true).catch(failed);
  // A button that can't be pressed any more would drop the focus.
  if (pressed.disabled) part(pressed.id === 'older' ? 'newer' : 'older').focus();
}

function failed(error) {
  shown = '';
  none.hidden = false;
  none.textContent = error.message;
}

/** Asks for the page that is shown; one that isn't the first changes only if somebody wants it. */
export async function refresh(isWanted = false) {
  if (!isWanted && begins.length > 1) return;
  asked += 1;
  const mine = asked;
  const search = part('words').value.trim();
  const state = part('state').value;
  const answer = await api.uploads({ search, state, after: begins.at(-1), limit: PAGE });
  // The answer to an older question.
  if (mine !== asked) return;
  next = answer.next;
  const text = JSON.stringify([answer, begins.length, search, state]);
  if (text === shown) return;
  shown = text;
  body.replaceChildren(...answer.uploads.map(line));
  part('rows').hidden = answer.uploads.length === 0;
  none.hidden = answer.uploads.length > 0;
  none.textContent = search || state ? 'No upload is like that.' : 'There are no uploads yet.';
  part('newer').disabled = begins.length === 1;
  part('older').disabled = next == null;
  part('pages').hidden = begins.length === 1 && next == null;
  const page = `Page ${begins.length}`;
  if (part('page').textContent !== page) part('page').textContent = page;
}

function line(upload) {
  const element = document.createElement('tr');
  const name = document.createElement('th');
  name.scope = 'row';
  name.append(words(nameOf(upload), 'name'));
  name.firstChild.dir = 'auto';
  if (upload.reason) name.append(words(upload.reason, 'reason'));
  const state = document.createElement('td');
  state.append(words(STATES[upload.state], 'badge'));
  state.dataset.label = 'State';
  element.dataset.state = upload.state;
  element.append(
    name,
    cell('Who', whoOf(upload)),
    state,
    cell('Size', size(upload), 'number'),
    cell('Node', upload.node ?? '–'),
    cell('Asked for', timeOf(upload.created_at)),
    cell('Ended', upload.ended_at ? timeOf(upload.ended_at) : '–'),
  );
  return element;
}

function size({ size: whole, offset, state }) {
  if (whole == null) return offset > 0 ? `${bytes(offset)} so far` : 'unknown';
  return state === 'completed' || offset === 0 ? bytes(whole) : `${bytes(offset)} of ${bytes(whole)}`;
}

function words(text, kind) {
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
