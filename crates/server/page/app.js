// The upload page: connects the chosen files, the uploads and the view.

import { MAX_FILES, canChooseFolder, chooseFiles, chooseFolder, fromDrop, fromList } from './files.js';
import { distinctBytes } from './format.js';
import { text, translatePage } from './i18n.js';
import { Item } from './item.js';
import { List } from './list.js';
import { Queue } from './queue.js';
import { Store, createRecord, identity } from './store.js';
import { Row, announce, copyText, showNote, showOverall, showSettings } from './view.js';
import { keepAwake } from './wake-lock.js';

/** Maximum number of concurrent uploads. */
const CONCURRENCY = 3;

/** Maximum number of uploads that wait for the network, before no further ones start. */
const MAX_OFFLINE = 3;

/** Update interval of progress and speed, in milliseconds. */
const UPDATE_INTERVAL = 500;

/** Time after which adding files lets the browser draw, in milliseconds. */
const MAX_BLOCKING = 12;

/** Maximum number of names in a note. */
const MAX_NAMES = 3;

/** States in which the same file, if added again, continues the upload. */
const RESTARTABLE = ['needs-file', 'needs-permission', 'failed'];

const byId = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="landfall-${name}"]`).content;

const endpoint = new URL(setting('endpoint'), document.baseURI).href;
const maxSize = setting('max-size') === '' ? null : Number(setting('max-size'));
const downloadable = setting('download') === 'true';
const requiresToken = byId('main').dataset.tokenEndpoint !== '';

const store = new Store(endpoint);
/** Uploads that wait for the network. @type {Set<Item>} */
const offline = new Set();
const context = {
  endpoint,
  store,
  queue: new Queue(CONCURRENCY, () => offline.size >= MAX_OFFLINE),
  restoreQueue: new Queue(CONCURRENCY),
  input: byId('input'),
  onChange: onItemChange,
  onNotRemoved: (item, message) => showNote(`${item.label}: ${message}`),
};

const list = new List(byId('list'), (item) => new Row(item, downloadable, (action) => act(item, action)));

function add(record) {
  const item = new Item(record, context);
  list.add(item);
  return item;
}

/** Adds files. A note names those that are already in the list, and offers to upload them again. */
async function addFiles(sources, unreadable = 0) {
  showNote('');
  const unfinished = findUnfinished();
  const known = [];
  let start = performance.now();
  for (const source of sources.slice(0, MAX_FILES)) {
    if (!addFile(source, unfinished)) known.push(source);
    if (performance.now() - start > MAX_BLOCKING) {
      await new Promise((resolve) => { setTimeout(resolve); });
      start = performance.now();
    }
  }
  const notes = [];
  if (sources.length > MAX_FILES) notes.push(text('note_limit', { count: MAX_FILES }));
  if (unreadable > 0) notes.push(text('note_unreadable', { count: unreadable }));
  if (known.length > 0) notes.push(text('note_known', { count: known.length, names: namesOf(known) }));
  const addAnyway = () => {
    showNote('');
    byId('choose').focus();
    for (const source of known) add(createRecord(source)).addFile(source);
  };
  if (notes.length > 0) {
    showNote(notes.join(' '), known.length > 0 ? { label: text('add_anyway'), run: addAnyway } : undefined);
  }
}

function namesOf(sources) {
  const names = sources.slice(0, MAX_NAMES).map(({ file, path }) => path || file.name);
  return names.join(', ') + (sources.length > MAX_NAMES ? ', …' : '');
}

/** Returns the unfinished uploads of this tab and the records of other tabs by their identity. */
function findUnfinished() {
  const found = new Map();
  const insert = (record, candidate) => {
    const key = identity(record);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(candidate);
  };
  const ids = new Set();
  for (const item of list.items) {
    const { record, state } = item;
    ids.add(record.id);
    if (['done', 'rejected', 'removing'].includes(state)) continue;
    const candidate = { record, item, isTaken: false };
    insert(record, candidate);
    // The file of a folder may be chosen again without the folder.
    if (state === 'needs-file' && record.path !== '') insert({ ...record, path: '' }, candidate);
  }
  for (const record of store.all()) {
    if (record.state !== 'finished' && !ids.has(record.id)) insert(record, { record, item: null, isTaken: false });
  }
  return found;
}

/** Takes an upload for a file: those of one choice are different files, whatever their names are. */
function takeUnfinished(unfinished, record) {
  const candidate = unfinished.get(identity(record))?.find(({ isTaken }) => !isTaken);
  if (candidate) candidate.isTaken = true;
  return candidate;
}

/** Adds a file; returns false if it is in the list already. */
function addFile(source, unfinished) {
  const { file } = source;
  const record = createRecord(source);
  if (maxSize !== null && file.size > maxSize) {
    const [size, limit] = distinctBytes(file.size, maxSize);
    const item = add(record);
    item.reject(text('error_size', { size, limit }));
    announce(text('heard_too_large', { name: item.label }));
    return true;
  }
  const match = takeUnfinished(unfinished, record);
  if (!match) add(record).addFile(source);
  else if (!match.item) add(match.record).addFile(source);
  else if (RESTARTABLE.includes(match.item.state)) match.item.addFile(source);
  else return false;
  return true;
}

async function act(item, action) {
  showNote('');
  switch (action) {
    case 'pause': item.pause(); break;
    case 'disconnect': item.disconnect(); break;
    case 'retry_now': item.retryNow(); break;
    case 'continue': case 'retry': item.start(); break;
    case 'resume':
      if (!(await item.resume())) showNote(text('note_permission', { name: item.label }));
      break;
    case 'cancel': await item.remove(); break;
    case 'clear': item.clear(); break;
    case 'choose_file':
      if (!(await item.chooseAgain())) showNote(text('note_other_file', { name: item.label }));
      break;
    case 'copy_link':
      if (await copyText(item.record.url)) announce(text('heard_link_copied'));
      else showNote(text('note_link', { url: item.record.url }));
      break;
    default: throw new Error(`unknown action ${action}`);
  }
}

function onItemChange(item, before) {
  if (!list.has(item)) return;
  const { state, label: name, message } = item.snapshot();
  if (state === 'removed') {
    if (!list.remove(item)) byId('choose').focus();
    if (before === 'removing' || before === 'creating') announce(text('heard_cancelled', { name }));
  } else {
    list.update(item, state !== before);
  }
  const wasOffline = offline.size;
  if (item.isOffline) offline.add(item);
  else offline.delete(item);
  if (offline.size < wasOffline) context.queue.next();
  if (state === before) return;
  // Announce only the first retry; `checking` precedes the next ones.
  if (state === 'waiting' && before === 'uploading') announce(text('heard_waiting', { name, message }));
  else if (state === 'done' && before !== 'restoring') announce(text('heard_done', { name }));
  else if (state === 'failed') announce(text('heard_failed', { name, message }));
  else if (state === 'paused' && before !== 'restoring') announce(text('heard_paused', { name }));
  scheduleRefresh();
}

let refreshTimer = 0;

function scheduleRefresh() {
  // Not a frame, which a hidden tab does not get.
  if (refreshTimer === 0) refreshTimer = setTimeout(refresh);
}

function refresh() {
  refreshTimer = 0;
  const snapshots = list.items.map((item) => item.snapshot());
  showOverall(snapshots);
  keepAwake(snapshots.some(({ state }) => ['creating', 'checking', 'uploading', 'waiting'].includes(state)));
}

function tick() {
  const now = performance.now();
  for (const item of list.items) {
    item.tick(now);
    if (['uploading', 'waiting'].includes(item.state)) list.update(item);
  }
  refresh();
}

/** The network may be back. */
function retryAll() {
  if (document.visibilityState === 'hidden') return;
  for (const item of list.items) item.retryNow();
}

function addListeners() {
  byId('choose').addEventListener('click', async () => addFiles(await chooseFiles(context.input, true)));
  byId('choose-folder').addEventListener('click', async () => addFiles(await chooseFolder(byId('folder-input'))));
  byId('clear').addEventListener('click', () => {
    for (const item of list.items.filter(({ state }) => state === 'done')) item.clear();
    byId('choose').focus();
  });
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.addEventListener('click', async () => {
      const isCopied = await copyText(byId(button.dataset.copies).textContent);
      announce(text(isCopied ? 'heard_command_copied' : 'heard_not_copied'));
    });
  }
  window.addEventListener('online', retryAll);
  document.addEventListener('visibilitychange', retryAll);
}

function addDropListeners() {
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
    const { sources, unreadable } = await fromDrop(event.dataTransfer);
    await addFiles(sources, unreadable);
  });
  document.addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length > 0) addFiles(fromList(event.clipboardData.files));
  });
}

function restore() {
  const items = store.all().map((record) => add(record));
  const count = items.filter(({ record }) => record.state !== 'finished').length;
  if (count > 0) announce(text('heard_restored', { count }));
  for (const item of items) {
    item.restore().catch(() => item.reject(text('error_restore')));
  }
  store.prune();
}

translatePage();
if (byId('tagline').textContent === '') byId('tagline').textContent = text('tagline');
showSettings({ endpoint, maxSize });
byId('choose-folder').hidden = !canChooseFolder;
// Without a token, the server would reject every upload.
byId('drop').hidden = byId('shell').hidden = requiresToken;
addListeners();
if (!requiresToken) addDropListeners();
restore();
refresh();
byId('main').hidden = false;
setInterval(tick, UPDATE_INTERVAL);
