// The page of an upload, at #/uploads/ID.

import * as api from './api.js';
import { buttons } from './actions.js';
import { announce } from './announce.js';
import { label, make, ticks } from './chart.js';
import { retryQuestion } from './events.js';
import { bytes, count, nameOf, pageOf, timeElement } from './format.js';
import { figures, setText, stateName } from './row.js';
import { definitions } from './system.js';

/** Delay of a refresh after an event. */
const DEBOUNCE = 800;

/** Maximum number of samples; then every other one is dropped. */
const MAX_SAMPLES = 600;

const HEIGHT = 150;
const MARGIN = { top: 10, right: 8, bottom: 8, left: 78 };

const part = (id) => document.getElementById(id);
const views = { list: part('list-view'), detail: part('detail-view') };

/** The id of the shown upload. */
let shownId = null;
let current = null;
/** The rendered data: without a change, nothing is rendered again, which keeps the focus. */
let rendered = '';
/** Received bytes since the page was opened: `{ at, offset }`. */
let samples = [];
let pending = null;
let scrolled = 0;

export function start() {
  addEventListener('hashchange', route);
  part('copy').addEventListener('click', copy);
  new ResizeObserver(draw).observe(part('offsets'));
  route();
}

/** Shows the view that the address names. */
function route() {
  const id = /^#\/uploads\/(\d+)$/.exec(location.hash)?.[1] ?? null;
  const before = shownId;
  if (id === before) return;
  if (before === null) scrolled = scrollY;
  [shownId, current, rendered, samples] = [id, null, '', []];
  views.list.hidden = id !== null;
  views.detail.hidden = id === null;
  if (id === null) {
    document.title = 'Uploads · Landfall';
    leave(before);
    return;
  }
  part('detail-body').hidden = true;
  setText(part('detail-title'), 'Upload');
  setText(part('detail-error'), '');
  scrollTo(0, 0);
  part('detail-title').focus();
  refresh().catch(showError);
}

/** Returns to the place in the list. */
function leave(id) {
  const target = location.hash.length > 1 && part(location.hash.slice(1));
  if (target) {
    target.closest('details')?.setAttribute('open', '');
    target.scrollIntoView();
    target.focus();
    return;
  }
  scrollTo(0, scrolled);
  document.querySelector(`a[href="${pageOf({ id })}"]`)?.focus({ preventScroll: true });
}

function showError(error) {
  setText(part('detail-error'), error.message);
  if (error.status === 404) part('detail-body').hidden = true;
}

/** Loads the shown upload. */
export async function refresh() {
  const id = shownId;
  if (id === null) return;
  let found;
  try {
    found = await api.upload(id);
  } catch (error) {
    if (id === shownId) showError(error);
    if (error instanceof api.ApiError) return;
    throw error;
  }
  if (id !== shownId) return;
  setText(part('detail-error'), '');
  current = found;
  sample(found.upload);
  show();
}

/** Applies an event. */
export function apply({ type, upload }) {
  if (String(upload.id) !== shownId || current === null) return;
  sample(upload);
  if (upload.offset >= current.upload.offset) {
    current.upload = { ...upload, download_url: current.upload.download_url };
    show();
  }
  if (type === 'UploadProgress') return;
  pending ??= setTimeout(() => {
    pending = null;
    refresh().catch(() => {});
  }, DEBOUNCE);
}

function sample({ offset }) {
  if (samples.at(-1)?.offset === offset && samples.length > 1 && samples.at(-2).offset === offset) samples.pop();
  samples.push({ at: Date.now(), offset });
  if (samples.length > MAX_SAMPLES) samples = samples.filter((_, index) => index % 2 === 0);
}

function show() {
  const { upload } = current;
  part('detail-body').hidden = false;
  const name = nameOf(upload);
  document.title = `${name} · Landfall`;
  setText(part('detail-title'), name);
  const head = part('detail-head');
  head.dataset.state = upload.state;
  head.dataset.receiving = upload.receiving;
  setText(part('detail-state'), stateName(upload));
  setText(part('detail-figures'), isWhole(upload) ? bytes(upload.offset) : figures(upload));
  const bar = part('detail-progress');
  if (upload.size == null) bar.removeAttribute('value');
  else bar.value = upload.size === 0 ? 1 : upload.offset / upload.size;
  setText(part('detail-reason'), upload.reason ?? '');
  draw();
  // Progress does not touch the rest, which may have the focus.
  const { offset, rate, seconds_left: left, updated_at: updated, received_at: received, receiving, ...rest } = upload;
  const text = JSON.stringify([rest, { ...current, upload: null }]);
  if (text !== rendered) {
    rendered = text;
    const hadFocus = part('detail-tools').contains(document.activeElement);
    part('detail-tools').replaceChildren(...buttons(upload, changed, showError));
    if (hadFocus) part('detail-title').focus();
    showEvents();
  }
  showFacts();
}

/** After an action: a deleted upload has no page. */
async function changed(result) {
  if (result !== true) {
    await refresh();
    return;
  }
  announce('Back to the list.');
  location.hash = '#history';
}

function showFacts() {
  const { upload } = current;
  setText(part('detail-id'), upload.upload_id ?? upload.request_id);
  const missing = upload.state === 'received' ? 'Not created yet' : 'Not in the store';
  replace('detail-data', [
    ['Size', upload.size == null ? 'Unknown' : bytes(upload.size)],
    ['Received', bytes(upload.offset)],
    ['Type', upload.filetype],
    ['Stored at', current.storage ? placeOf(current.storage) : missing],
    ['Entity tag', current.etag],
    ['Transfer', upload.transfer === 'direct' ? 'Directly to S3' : 'Through the server'],
    ['Node', upload.node],
    ['Client address', upload.client],
  ]);
  replace('detail-times', [
    ['Created', timeElement(upload.created_at)],
    ['Last byte', upload.received_at ? timeElement(upload.received_at) : 'None received'],
    [isWhole(upload) ? 'Completed' : 'Ended', upload.ended_at && timeElement(upload.ended_at)],
    ['Removed', upload.state === 'removed' ? timeElement(upload.updated_at) : null],
    ['Removed at', current.removed_at && timeElement(current.removed_at)],
  ]);
  replace('detail-grant', upload.subject === null ? [['Principal', 'None: created without a grant']] : [
    ['Principal', upload.subject],
    ['Request id', upload.request_id],
    ['Granted type', upload.filetype],
    ['Size limit', limitOf(upload)],
    ['Grant expires', timeElement(upload.expires_at)],
  ]);
  const pairs = [
    ...Object.entries(current.upload_metadata ?? {}),
    ...Object.entries(upload.metadata).map(([key, value]) => [`${key} (grant)`, typeof value === 'string' ? value : JSON.stringify(value)]),
  ];
  replace('detail-metadata', pairs.length > 0 ? pairs : [['Metadata', 'None']]);
}

const limitOf = ({ size }) => {
  if (current.max_size != null) return bytes(current.max_size);
  return size == null ? 'None' : `${bytes(size)} (the granted size)`;
};

const isWhole = ({ state }) => state === 'completed' || state === 'removed';

const placeOf = (storage) => storage.Path ?? (storage.Bucket ? `${storage.Bucket}/${storage.Key}` : JSON.stringify(storage));

function replace(id, pairs) {
  const known = pairs.filter(([, value]) => value != null);
  const text = known.map(([name, value]) => `${name}\n${value.dateTime ?? value}`).join('\n');
  const place = part(id);
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren(definitions(known));
}

function showEvents() {
  const { events, delivered, has_hooks: hasHooks } = current;
  part('detail-events').replaceChildren(...delivered.map(deliveredItem), ...events.map(eventItem));
  setText(part('detail-events-none'), (() => {
    if (!hasHooks) return 'No hooks configured.';
    return events.length + delivered.length > 0 ? '' : 'No events. Delivered ones are stored for the time of --events-history.';
  })());
}

function deliveredItem(event) {
  const element = part('dead-row').content.firstElementChild.cloneNode(true);
  element.querySelector('.name').textContent = event.event;
  element.querySelector('.error').textContent = event.error ? `Before: ${event.error}` : '';
  element.querySelector('.about').append(
    `${event.transport} · delivered after ${count(event.attempts, 'attempt')} · emitted `,
    timeElement(event.created_at), ', delivered ', timeElement(event.delivered_at),
  );
  element.querySelector('.tools').remove();
  return element;
}

function eventItem(event) {
  const element = part('dead-row').content.firstElementChild.cloneNode(true);
  const isDead = event.state === 'dead';
  const name = `${event.event} of ${nameOf(current.upload)}`;
  element.querySelector('.name').textContent = event.event;
  element.querySelector('.error').textContent = event.error ?? '';
  element.querySelector('.about').append(
    `${event.transport} · ${isDead ? 'undelivered' : 'pending'} · ${count(event.attempts, 'attempt')} · `,
    isDead ? 'dead since ' : 'next attempt ',
    timeElement(isDead ? event.dead_at : event.due_at),
  );
  element.querySelector('.delete').remove();
  const retry = element.querySelector('.retry');
  retry.querySelector('.of').textContent = ` ${name}`;
  retry.hidden = !isDead;
  retry.addEventListener('click', async () => {
    if (!await retryQuestion(name)) return;
    try {
      const { changed: sum } = await api.retryDeadLetters({ ids: [event.id] });
      announce(`${count(sum, 'event')} scheduled.`);
      await refresh();
      part('detail-events-title').focus();
    } catch (error) {
      showError(error);
    }
  });
  return element;
}

async function copy() {
  const id = part('detail-id').textContent;
  try {
    await navigator.clipboard.writeText(id);
    announce('Copied.');
    setText(part('copy-state'), 'Copied');
  } catch {
    // Without HTTPS there is no clipboard: select the id, so that the user can copy it.
    getSelection().selectAllChildren(part('detail-id'));
    setText(part('copy-state'), 'Selected: press Ctrl+C');
  }
}

/** Draws the received bytes since the page was opened. */
function draw() {
  const container = part('offsets');
  const width = Math.round(container.clientWidth);
  if (current === null || width === 0) return;
  const [first, last] = [samples[0], samples.at(-1)];
  const hasGrown = last.offset > first.offset;
  setText(part('offsets-note'), hasGrown
    ? 'Since this page was opened. The server stores no history of the offset.'
    : 'No bytes were received since this page was opened. The server stores no history of the offset.');
  if (!hasGrown) {
    container.replaceChildren();
    return;
  }
  const scale = ticks(Math.max(last.offset, current.upload.size ?? 0));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const x = (at) => MARGIN.left + inner.width * ((at - first.at) / Math.max(1, last.at - first.at));
  const y = (offset) => MARGIN.top + inner.height * (1 - offset / scale.top);
  const drawing = make('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img' });
  const title = make('title');
  title.textContent = `Received bytes since this page was opened: from ${bytes(first.offset)} to ${bytes(last.offset)}.`;
  drawing.append(title);
  for (const value of scale.values) {
    drawing.append(
      make('line', { class: value === 0 ? 'axis' : 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      label(MARGIN.left - 8, y(value) + 4, 'end', value === 0 ? '0' : bytes(value)),
    );
  }
  drawing.append(make('polyline', { class: 'line', points: samples.map(({ at, offset }) => `${x(at).toFixed(1)},${y(offset).toFixed(1)}`).join(' ') }));
  container.replaceChildren(drawing);
}
