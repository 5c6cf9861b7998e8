// The greeting page: joins the files a person gives, the uploads and what is shown.

import { keepAwake } from './awake.js';
import { MAX_FILES, chooseFiles, fromDrop, fromList } from './files.js';
import { apart, plural } from './format.js';
import { Item } from './item.js';
import { Queue } from './queue.js';
import { Store, isSameFile, recordOf } from './store.js';
import { Row, announce, copyText, showNote, showOverall, showSettings } from './view.js';

/** Uploads that run at a time. */
const CONCURRENCY = 3;

/** How often figures are brought up to date, in milliseconds. */
const TICK = 500;

const byId = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="landfall-${name}"]`).content;

const endpoint = new URL(setting('endpoint'), document.baseURI).href;
const maxSize = setting('max-size') === '' ? null : Number(setting('max-size'));
const downloadable = setting('download') === 'true';

const store = new Store(endpoint);
const context = { endpoint, store, queue: new Queue(CONCURRENCY), input: byId('input'), onChange: changed };

/** @type {Map<Item, Row>} */
const rows = new Map();

function add(record) {
  const item = new Item(record, context);
  const row = new Row(record.name, downloadable, (action) => act(item, action));
  rows.set(item, row);
  byId('list').append(row.element);
  row.update(item.snapshot());
  return item;
}

function take(sources) {
  showNote('');
  const notes = [];
  if (sources.length > MAX_FILES) notes.push(`Only the first ${MAX_FILES} files were taken.`);
  for (const source of sources.slice(0, MAX_FILES)) {
    const note = takeOne(source);
    if (note) notes.push(note);
  }
  if (notes.length > 0) showNote([...new Set(notes)].join(' '));
  refresh();
}

function takeOne(source) {
  const { file } = source;
  if (maxSize !== null && file.size > maxSize) {
    const item = add(recordOf(file));
    const [size, limit] = apart(file.size, maxSize);
    item.refuse(`Too large: ${size}, but this server takes up to ${limit} for each file.`);
    announce(`${file.name} is too large.`);
    return '';
  }
  const item = [...rows.keys()].find(({ record, state }) => (
    isSameFile(record, file) && !['done', 'refused', 'removed'].includes(state)
  ));
  if (item && ['needs-file', 'needs-leave', 'failed'].includes(item.state)) item.give(source);
  else if (item) return `${file.name} is in the list already.`;
  else add(elsewhere(file) ?? recordOf(file)).give(source);
  return '';
}

/** The record another tab has made of the same file since this one was opened. */
function elsewhere(file) {
  return store.all().find((record) => record.state !== 'finished' && isSameFile(record, file));
}

async function act(item, action) {
  showNote('');
  const { name } = item.record;
  switch (action) {
    case 'pause': item.pause(); break;
    case 'cut': item.cut(); break;
    case 'retry-now': item.retryNow(); break;
    case 'start': item.start(); break;
    case 'resume': await item.resume(); break;
    case 'remove': await item.remove(); break;
    case 'clear': item.clear(); break;
    case 'choose-again':
      if (!(await item.chooseAgain())) {
        showNote(`That is not the same “${name}”: its name, size or date differ. To upload it anew, cancel the old one first.`);
      }
      break;
    case 'copy':
      if (await copyText(item.record.url)) announce('Link copied.');
      else showNote(`The link is ${item.record.url}`);
      break;
    default: throw new Error(`unknown action ${action}`);
  }
}

function changed(item, before) {
  const row = rows.get(item);
  if (!row) return;
  const { state, name, message } = item.snapshot();
  if (state === 'removed') {
    drop(item, row);
    if (before === 'removing') announce(`${name} cancelled.`);
  } else {
    row.update(item.snapshot());
  }
  if (state !== before) {
    // Of retries only the first is worth a word; `checking` lies between one and the next.
    if (state === 'waiting' && before === 'uploading') announce(`${name}: ${message} It goes on by itself.`);
    else if (state === 'done' && before !== 'finding') announce(`${name} uploaded.`);
    else if (state === 'failed') announce(`${name} failed. ${message}`);
    else if (state === 'paused' && before !== 'finding') announce(`${name} paused.`);
    refresh();
  }
}

function drop(item, row) {
  const focused = row.element.contains(document.activeElement);
  const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
  rows.delete(item);
  row.element.remove();
  if (!focused) return;
  const other = [...rows.values()].find(({ element }) => element === next);
  if (other) other.focus();
  else byId('choose').focus();
}

function refresh() {
  const snapshots = [...rows.keys()].map((item) => item.snapshot());
  showOverall(snapshots);
  keepAwake(snapshots.some(({ state }) => ['creating', 'checking', 'uploading', 'waiting'].includes(state)));
}

function tick() {
  const now = performance.now();
  for (const [item, row] of rows) {
    item.tick(now);
    if (['uploading', 'waiting'].includes(item.state)) row.update(item.snapshot());
  }
  refresh();
}

function listen() {
  byId('choose').addEventListener('click', async () => take(await chooseFiles(context.input, true)));
  byId('clear').addEventListener('click', () => {
    for (const item of [...rows.keys()].filter(({ state }) => state === 'done')) item.clear();
    byId('choose').focus();
  });
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.addEventListener('click', async () => {
      announce((await copyText(byId(button.dataset.copies).textContent)) ? 'Command copied.' : 'Copying failed.');
    });
  }

  // The whole page takes drops, so that one beside the mark doesn't open the file instead.
  let inside = 0;
  const mark = (change) => {
    inside = Math.max(0, change);
    byId('drop').classList.toggle('over', inside > 0);
  };
  const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
  document.addEventListener('dragenter', (event) => { if (hasFiles(event)) mark(inside + 1); });
  document.addEventListener('dragleave', (event) => { if (hasFiles(event)) mark(inside - 1); });
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
  });
  document.addEventListener('drop', async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(0);
    try {
      take(await fromDrop(event.dataTransfer));
    } catch {
      showNote('Some of what was dropped could not be read.');
    }
  });
  document.addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length > 0) take(fromList(event.clipboardData.files));
  });
}

function restore() {
  const items = store.all().map((record) => add(record));
  const unfinished = items.filter(({ record }) => record.state !== 'finished').length;
  if (unfinished > 0) announce(`${plural(unfinished, 'unfinished upload')} from before.`);
  for (const item of items) {
    item.restore().catch(() => item.refuse('What was left of this upload could not be read.'));
  }
  store.prune();
}

showSettings({ endpoint, maxSize });
listen();
restore();
refresh();
setInterval(tick, TICK);
