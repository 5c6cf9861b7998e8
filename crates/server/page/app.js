// The upload page: connects the chosen files, the uploads and the view.

import { keepAwake } from './wake-lock.js';
import { MAX_FILES, chooseFiles, fromDrop, fromList } from './files.js';
import { distinctBytes, plural } from './format.js';
import { Item } from './item.js';
import { Queue } from './queue.js';
import { Store, createRecord, isSameFile } from './store.js';
import { Row, announce, copyText, showNote, showOverall, showSettings } from './view.js';

/** Maximum number of concurrent uploads. */
const CONCURRENCY = 3;

/** Update interval of progress and speed, in milliseconds. */
const UPDATE_INTERVAL = 500;

const byId = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="landfall-${name}"]`).content;

const endpoint = new URL(setting('endpoint'), document.baseURI).href;
const maxSize = setting('max-size') === '' ? null : Number(setting('max-size'));
const downloadable = setting('download') === 'true';

const store = new Store(endpoint);
const context = { endpoint, store, queue: new Queue(CONCURRENCY), input: byId('input'), onChange: onItemChange };

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

function addFiles(sources) {
  showNote('');
  const notes = [];
  if (sources.length > MAX_FILES) notes.push(`Only the first ${MAX_FILES} files were added.`);
  for (const source of sources.slice(0, MAX_FILES)) {
    const note = addFile(source);
    if (note) notes.push(note);
  }
  if (notes.length > 0) showNote([...new Set(notes)].join(' '));
  refresh();
}

function addFile(source) {
  const { file } = source;
  if (maxSize !== null && file.size > maxSize) {
    const item = add(createRecord(file));
    const [size, limit] = distinctBytes(file.size, maxSize);
    item.reject(`Too large: ${size}, but this server accepts at most ${limit} per file.`);
    announce(`${file.name} is too large.`);
    return '';
  }
  const item = [...rows.keys()].find(({ record, state }) => (
    isSameFile(record, file) && !['done', 'rejected', 'removed'].includes(state)
  ));
  if (item && ['needs-file', 'needs-permission', 'failed'].includes(item.state)) item.addFile(source);
  else if (item) return `${file.name} is already in the list.`;
  else add(inOtherTab(file) ?? createRecord(file)).addFile(source);
  return '';
}

/** Returns the record of the same file that another tab has created meanwhile. */
function inOtherTab(file) {
  return store.all().find((record) => record.state !== 'finished' && isSameFile(record, file));
}

async function act(item, action) {
  showNote('');
  const { name } = item.record;
  switch (action) {
    case 'pause': item.pause(); break;
    case 'disconnect': item.disconnect(); break;
    case 'retry-now': item.retryNow(); break;
    case 'start': item.start(); break;
    case 'resume': await item.resume(); break;
    case 'remove': await item.remove(); break;
    case 'clear': item.clear(); break;
    case 'choose-again':
      if (!(await item.chooseAgain())) {
        showNote(`That is not the same “${name}”: its name, size or date differ. To upload it again, cancel the old upload first.`);
      }
      break;
    case 'copy':
      if (await copyText(item.record.url)) announce('Link copied.');
      else showNote(`The link is ${item.record.url}`);
      break;
    default: throw new Error(`unknown action ${action}`);
  }
}

function onItemChange(item, before) {
  const row = rows.get(item);
  if (!row) return;
  const { state, name, message } = item.snapshot();
  if (state === 'removed') {
    removeRow(item, row);
    if (before === 'removing') announce(`${name} cancelled.`);
  } else {
    row.update(item.snapshot());
  }
  if (state !== before) {
    // Announce only the first retry; `checking` precedes the next ones.
    if (state === 'waiting' && before === 'uploading') announce(`${name}: ${message} It will resume automatically.`);
    else if (state === 'done' && before !== 'restoring') announce(`${name} uploaded.`);
    else if (state === 'failed') announce(`${name} failed. ${message}`);
    else if (state === 'paused' && before !== 'restoring') announce(`${name} paused.`);
    refresh();
  }
}

function removeRow(item, row) {
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

function addListeners() {
  byId('choose').addEventListener('click', async () => addFiles(await chooseFiles(context.input, true)));
  byId('clear').addEventListener('click', () => {
    for (const item of [...rows.keys()].filter(({ state }) => state === 'done')) item.clear();
    byId('choose').focus();
  });
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.addEventListener('click', async () => {
      announce((await copyText(byId(button.dataset.copies).textContent)) ? 'Command copied.' : 'Copying failed.');
    });
  }

  // The whole page accepts drops, so that a missed target does not open the file.
  let depth = 0;
  const setDepth = (value) => {
    depth = Math.max(0, value);
    byId('drop').classList.toggle('over', depth > 0);
  };
  const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
  document.addEventListener('dragenter', (event) => { if (hasFiles(event)) setDepth(depth + 1); });
  document.addEventListener('dragleave', (event) => { if (hasFiles(event)) setDepth(depth - 1); });
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
  });
  document.addEventListener('drop', async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    setDepth(0);
    try {
      addFiles(await fromDrop(event.dataTransfer));
    } catch {
      showNote('Some of the dropped files could not be read.');
    }
  });
  document.addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length > 0) addFiles(fromList(event.clipboardData.files));
  });
}

function restore() {
  const items = store.all().map((record) => add(record));
  const unfinished = items.filter(({ record }) => record.state !== 'finished').length;
  if (unfinished > 0) announce(`${plural(unfinished, 'unfinished upload')} restored.`);
  for (const item of items) {
    item.restore().catch(() => item.reject('This upload could not be restored.'));
  }
  store.prune();
}

showSettings({ endpoint, maxSize });
addListeners();
restore();
refresh();
setInterval(tick, UPDATE_INTERVAL);
