// The upload page: connects the chosen files, the uploads and the view.

import { MAX_FILES, canChooseFolder, chooseFiles, chooseFolder, fromDrop, fromList } from './files.js';
import { distinctBytes } from './format.js';
import { day, text, translatePage } from './i18n.js';
import { Item } from './item.js';
import { takeLink } from './link.js';
import { List } from './list.js';
import { Overall } from './overall.js';
import { Queue } from './queue.js';
import { MAX_FINISHED, Store, createRecord, identity, isOpen } from './store.js';
import { Row, announce, copyText, showNote, showSettings } from './view.js';
import { keepAwake } from './wake-lock.js';

/** Maximum number of concurrent uploads. */
const CONCURRENCY = 3;

/** Maximum number of uploads that wait for the network, before no further ones start. */
const MAX_OFFLINE = 3;

/** Update interval of progress and speed, in milliseconds. */
const UPDATE_INTERVAL = 500;

/** Time after which work on many files lets the browser draw, in milliseconds. */
const MAX_BLOCKING = 12;

/** Maximum number of finished uploads that are shown as rows, unless the user unfolds them. */
const MAX_UNFOLDED = 5;

/** Time until a link that should have ended by this clock is read again, in milliseconds. */
const LINK_INTERVAL = 60_000;

/** Maximum number of names in a note. */
const MAX_NAMES = 3;

/** States in which the same file, if added again, continues the upload. */
const RESTARTABLE = ['needs-file', 'needs-permission', 'failed'];

/** States of uploads that are neither finished nor rejected, and in no other tab. */
const CANCELLABLE = ['queued', 'needs-file', 'needs-permission', 'creating', 'checking', 'uploading', 'waiting', 'paused', 'failed'];

/** Buttons for several uploads: the states in which they do something, and what they do. */
const BULK = [
  ['pause-all', ['queued', 'creating', 'checking', 'uploading', 'waiting'], (item) => item.pause()],
  ['resume-all', ['paused'], (item) => item.start()],
  ['retry-all', ['failed'], (item) => item.start()],
  ['cancel-all', CANCELLABLE, (item) => item.remove()],
  ['clear-rejected', ['rejected'], (item) => item.clear()],
];

const byId = (id) => document.getElementById(id);
const setting = (name) => document.querySelector(`meta[name="landfall-${name}"]`).content;

const endpoint = new URL(setting('endpoint'), document.baseURI).href;
let maxSize = setting('max-size') === '' ? null : Number(setting('max-size'));
const downloadable = setting('download') === 'true';
const link = takeLink(setting('grants'));
if (link) byId('main').dataset.tokenEndpoint = '';
/** The text about a file above `maxSize`. */
let sizeError = 'error_size';
/** The text if the upload link accepts no more files. */
let full = '';
/** Whether the upload link may have changed since it was read, and whether it is being read. */
let [isLinkStale, isReadingLink] = [false, false];
/** When the upload link is read again, because it has ended: milliseconds since 1970. */
let linkDue = Infinity;
let requiresToken = byId('main').dataset.tokenEndpoint !== '';

const store = new Store(endpoint, link?.secret);
/** Uploads that wait for the network. @type {Set<Item>} */
const offline = new Set();
const context = {
  endpoint,
  store,
  link,
  queue: new Queue(CONCURRENCY, () => offline.size >= MAX_OFFLINE),
  restoreQueue: new Queue(CONCURRENCY),
  input: byId('input'),
  onChange: onItemChange,
  onNotRemoved: (item, message) => showNote(`${item.label}: ${message}`),
};

const overall = new Overall();
const createRow = (item) => new Row(item, downloadable, (action) => act(item, action));
const unfinished = new List(byId('list'), createRow);
const finished = new List(byId('finished'), createRow);
/** All uploads of the page. @type {Set<Item>} */
const items = new Set();
/** Snapshots of files that are being added. Many take a while, and count from the start. */
const pending = new Set();
/** Whether the user folded the finished uploads; null if it depends on their number. */
let isFolded = null;
/** Whether there may have been more finished uploads than the list shows. */
let isIncomplete = false;

function add(record) {
  const item = new Item(record, context);
  items.add(item);
  (item.isEarlier ? finished : unfinished).add(item);
  return item;
}

/** Runs something for each of many values, and lets the browser draw in between. */
async function forEach(values, run) {
  let start = performance.now();
  for (const value of values) {
    run(value);
    if (performance.now() - start < MAX_BLOCKING) continue;
    await new Promise((resolve) => { setTimeout(resolve); });
    start = performance.now();
  }
}

/** Adds files. A note names those that are in the list or were uploaded before, and offers to upload them again. */
async function addFiles(sources, unreadable = 0) {
  showNote('');
  const candidates = findUnfinished();
  const now = Date.now();
  const rejected = new Map(Array.from(items).filter(({ state }) => state === 'rejected').map((item) => [identity(item.record), item]));
  const found = { new: [], continued: [], listed: [], before: [] };
  const toAdd = [];
  await forEach(sources.slice(0, MAX_FILES), (source) => {
    const { group, ...file } = classify(source, candidates, now);
    found[group].push(source);
    if (file.record) toAdd.push({ ...file, source });
  });
  for (const { snapshot } of toAdd) if (snapshot) pending.add(snapshot);
  scheduleRefresh();
  await forEach(toAdd, (file) => {
    pending.delete(file.snapshot);
    rejected.get(identity(file.record))?.clear();
    rejected.delete(identity(file.record));
    addFile(file);
  });
  const notes = [];
  if (sources.length > MAX_FILES) notes.push(text('note_limit', { count: MAX_FILES }));
  if (unreadable > 0) notes.push(text('note_unreadable', { count: unreadable }));
  const { listed, before } = found;
  const again = [...listed, ...before];
  if (listed.length > 0) notes.push(text('note_known', { count: listed.length, names: namesOf(listed) }));
  if (before.length > 0) {
    const date = day(store.uploadedAt(createRecord(before[0])));
    notes.push(text('note_before', { count: before.length, names: namesOf(before), date }));
    if (found.new.length > 0) notes.push(text('note_new', { count: found.new.length }));
  }
  const addAnyway = () => {
    showNote('');
    focusStart();
    for (const source of again) add(createRecord(source)).addFile(source);
  };
  if (notes.length > 0) {
    showNote(notes.join(' '), again.length > 0 ? { label: text('add_anyway'), run: addAnyway } : undefined);
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
  for (const item of items) {
    const { record, state } = item;
    ids.add(record.id);
    // A finished one of an earlier visit is only being checked.
    if (item.isEarlier || ['done', 'rejected', 'removing'].includes(state)) continue;
    const candidate = { record, item, isTaken: false };
    insert(record, candidate);
    // The file of a folder may be chosen again without the folder.
    if (state === 'needs-file' && record.path !== '') insert({ ...record, path: '' }, candidate);
  }
  for (const record of store.all()) {
    if (isOpen(record) && !ids.has(record.id)) insert(record, { record, item: null, isTaken: false });
  }
  return found;
}

/** Takes an upload for a file: those of one choice are different files, whatever their names are. */
function takeUnfinished(candidates, record) {
  const candidate = candidates.get(identity(record))?.find(({ isTaken }) => !isTaken);
  if (candidate) candidate.isTaken = true;
  return candidate;
}

/**
 * Decides about a file: its `group`; unless it is in the list or was uploaded before, the `record` of its upload; the
 * `item` that is in the list, or the `snapshot` until it is; and why it is rejected, with the announcement.
 */
function classify(source, candidates, now) {
  const record = createRecord(source);
  const { name, size } = record;
  const snapshot = { state: 'queued', size, sent: 0, restored: 0 };
  const rejected = (message, heard) => ({ group: 'new', record, snapshot: { ...snapshot, state: 'rejected' }, message, heard });
  if (maxSize !== null && size > maxSize) {
    const [shown, limit] = distinctBytes(size, maxSize);
    return rejected(text(sizeError, { size: shown, limit }), text('heard_too_large', { name: record.path || name }));
  }
  const match = takeUnfinished(candidates, record);
  // Another file of this choice may have the same identity.
  if (!match && store.uploadedAt(record) < now) return { group: 'before' };
  if (match?.item && match.item.state !== 'restoring' && !RESTARTABLE.includes(match.item.state)) return { group: 'listed' };
  if (!match && full) return rejected(full, full);
  if (match?.item) return { group: 'continued', record: match.record, item: match.item };
  return { group: match ? 'continued' : 'new', record: match?.record ?? record, snapshot };
}

/** Adds a file, or continues its upload. */
function addFile({ source, record, item, message, heard }) {
  if (message) {
    add(record).reject(message);
    announce(heard);
  } else if (item?.state === 'restoring') {
    item.offer(source);
  } else if (!item || RESTARTABLE.includes(item.state)) {
    (item ?? add(record)).addFile(source);
  }
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
  if (!items.has(item)) return;
  const { state, label: name, message } = item.snapshot();
  const list = finished.has(item) ? finished : unfinished;
  if (state === 'removed') {
    items.delete(item);
    overall.keep({ ...item.snapshot(), state: before });
    if (!list.remove(item)) focusStart();
    if (before === 'removing' || before === 'creating') announce(text('heard_cancelled', { name }));
  } else {
    list.update(item, state !== before);
  }
  const wasOffline = offline.size;
  if (item.isOffline) offline.add(item);
  else offline.delete(item);
  if (offline.size < wasOffline) context.queue.next();
  if (state === before) return;
  const fails = state === 'failed' && before !== 'restoring';
  // Announce only the first retry; `checking` precedes the next ones.
  if (state === 'waiting' && before === 'uploading') announce(text('heard_waiting', { name, message }));
  else if (state === 'done' && before !== 'restoring') announce(text('heard_done', { name }));
  else if (fails || (state === 'rejected' && before === 'creating')) announce(text('heard_failed', { name, message }));
  else if (state === 'paused' && before !== 'restoring') announce(text('heard_paused', { name }));
  // It was granted or denied, or may no longer count as a file of the link.
  if (['creating', 'removing'].includes(before) || fails) isLinkStale = true;
  scheduleRefresh();
}

let refreshTimer = 0;

function scheduleRefresh() {
  // Not a frame, which a hidden tab does not get.
  if (refreshTimer === 0) refreshTimer = setTimeout(refresh);
}

/** Folds finished uploads if they are many, or as the user wants. */
function showFold() {
  if (finished.size === 0) [isFolded, isIncomplete] = [null, false];
  const isHidden = isFolded ?? finished.size > MAX_UNFOLDED;
  const loses = isHidden && byId('finished').contains(document.activeElement);
  finished.isFolded = isHidden;
  byId('finished-head').hidden = finished.size === 0;
  byId('fold').setAttribute('aria-expanded', !isHidden);
  byId('fold').textContent = text(isIncomplete ? 'fold_last' : 'fold', { count: finished.size });
  if (loses) byId('fold').focus();
}

function refresh() {
  refreshTimer = 0;
  const snapshots = [...Array.from(items, (item) => item.snapshot()), ...pending];
  overall.show(snapshots);
  showFold();
  for (const [id, states] of BULK) byId(id).hidden = snapshots.filter(({ state }) => states.includes(state)).length < 2;
  keepAwake(snapshots.some(({ state }) => ['creating', 'checking', 'uploading', 'waiting'].includes(state)));
}

function tick() {
  const now = performance.now();
  for (const item of items) {
    item.tick(now);
    if (['uploading', 'waiting'].includes(item.state)) unfinished.update(item);
    // Not at once: of many small files, rows would move all the time.
    else if (item.state === 'done' && unfinished.has(item) && unfinished.moveTo(finished, item)) byId('fold').focus();
  }
  overall.tick(Array.from(items, (item) => item.snapshot()), now);
  refresh();
  if (link && (isLinkStale || Date.now() >= linkDue) && !isReadingLink && !requiresToken) showLink();
}

/** The network may be back, and others may have used the link. */
function retryAll() {
  if (document.visibilityState === 'hidden') return;
  isLinkStale = true;
  for (const item of items) item.retryNow();
}

function addListeners() {
  byId('choose').addEventListener('click', async () => addFiles(await chooseFiles(context.input, true)));
  byId('choose-folder').addEventListener('click', async () => addFiles(await chooseFolder(byId('folder-input'))));
  for (const [id, states, run] of BULK) {
    byId(id).addEventListener('click', async () => {
      const affected = [...items].filter(({ state }) => states.includes(state));
      const question = () => [
        text('cancel_all_question', { count: affected.length }),
        ...(affected.some(({ record }) => record.url) ? [text('cancel_all_stored')] : []),
      ].join(' ');
      if (id === 'cancel-all' && !confirm(question())) return;
      // The queued ones come first, so that none of them starts.
      if (['pause-all', 'cancel-all'].includes(id)) affected.reverse();
      await forEach(affected, (item) => { if (states.includes(item.state)) run(item); });
      refresh();
      if (!byId(id).hidden) return;
      const other = BULK.map(([each]) => byId(each)).find(({ hidden }) => !hidden);
      if (other) other.focus();
      else focusStart();
    });
  }
  byId('fold').addEventListener('click', () => {
    isFolded = byId('fold').getAttribute('aria-expanded') === 'true';
    showFold();
  });
  byId('clear').addEventListener('click', () => {
    for (const item of [...items].filter(({ state }) => state === 'done')) item.clear();
    focusStart();
  });
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.addEventListener('click', async () => {
      const isCopied = await copyText(byId(button.dataset.copies).textContent);
      announce(text(isCopied ? 'heard_command_copied' : 'heard_not_copied'));
    });
  }
  window.addEventListener('online', retryAll);
  // The requests that run may take a minute to fail.
  window.addEventListener('offline', () => { for (const item of items) item.disconnect('offline'); });
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
  const restored = store.all().map((record) => add(record));
  const count = restored.filter(({ record }) => isOpen(record)).length;
  if (count > 0) announce(text('heard_restored', { count }));
  isIncomplete = finished.size >= MAX_FINISHED;
  // A finished one only has to be checked.
  for (const item of restored.sort((a, b) => a.isEarlier - b.isEarlier)) item.restore();
  store.prune();
}

/** Shows the name and the limits of the upload link. Without a connection, the first upload will tell. */
async function showLink() {
  [isLinkStale, isReadingLink, linkDue] = [false, true, Infinity];
  try {
    const { name, maxSize: max, end, full: fullNow, limits } = await link.describe();
    const ended = Date.parse(end) + 1000;
    // This clock may differ from the server's.
    if (end) linkDue = ended > Date.now() ? ended : Date.now() + LINK_INTERVAL;
    document.querySelector('h1').textContent = name;
    if (fullNow || limits) byId('tagline').textContent = fullNow || limits;
    if (max !== null && max < (maxSize ?? Infinity)) [maxSize, sizeError] = [max, 'error_size_link'];
    if (fullNow && !full) announce(fullNow);
    full = fullNow;
  } catch (error) {
    if ([401, 403, 501].includes(error.status)) {
      requiresToken = true;
      showNote(text(error.status === 501 ? 'link_unsupported' : 'link_ended'));
    }
  }
  isReadingLink = false;
  showDrop();
}

/** Without a token, the server would reject every upload. */
function showDrop() {
  const hadFocus = byId('drop').contains(document.activeElement);
  byId('drop').hidden = requiresToken || full !== '';
  if (hadFocus && byId('drop').hidden) focusStart();
}

/** Moves the focus from something that is removed. */
function focusStart() {
  (byId('drop').hidden ? byId('tagline') : byId('choose')).focus();
}

translatePage();
if (link) await showLink();
if (byId('tagline').textContent === '') byId('tagline').textContent = text('tagline');
showSettings({ endpoint, maxSize });
byId('choose-folder').hidden = !canChooseFolder;
showDrop();
byId('shell').hidden = requiresToken || link !== null;
addListeners();
if (!requiresToken) addDropListeners();
restore();
refresh();
byId('main').hidden = false;
setInterval(tick, UPDATE_INTERVAL);
