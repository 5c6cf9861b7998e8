// Starts the parts of the page and refreshes them.

import * as active from './active.js';
import * as api from './api.js';
import * as chart from './chart.js';
import * as detail from './detail.js';
import { subscribe } from './event-stream.js';
import * as events from './events.js';
import * as history from './history.js';
import * as links from './links.js';
import { setText } from './row.js';
import * as system from './system.js';

/** Refresh interval of the totals and the health, in milliseconds. */
const OVERVIEW_INTERVAL = 5000;

/** Refresh interval of the uploads, with and without the event stream. */
const UPLOADS_INTERVAL = { streaming: 10_000, polling: 3000 };

/** Refresh interval of the chart and the keys. */
const SLOW_INTERVAL = 30_000;

/** Delay of a refresh after an event, so that many events cause one refresh. */
const DEBOUNCE = 800;

const notice = document.getElementById('notice');

let isStreaming = false;
let pendingRefresh = null;

/** Runs a refresh, and shows its error on the page. */
async function attempt(refresh) {
  try {
    await refresh();
    notice.hidden = true;
  } catch (error) {
    setText(notice, error instanceof api.ApiError
      ? error.message
      : 'The server can’t be reached. This page may be outdated; it keeps retrying.');
    notice.hidden = false;
  }
}

/** On a phone, the longer sections start folded. */
function fold() {
  if (!matchMedia('(max-width: 44rem)').matches) return;
  for (const section of document.querySelectorAll('details.folds')) section.open = false;
}

/** Repeats a refresh while the page is visible. */
function repeat(refresh, interval) {
  const once = async () => {
    if (!document.hidden) await attempt(refresh);
    setTimeout(once, interval());
  };
  once();
}

async function refreshOverview() {
  const overview = await api.overview();
  system.show(overview);
  await events.refresh(overview.outbox);
}

async function refreshUploads() {
  await Promise.all([active.refresh(), history.refresh(), detail.refresh()]);
}

/** Schedules a refresh, since an upload has started or ended. */
function refreshSoon() {
  pendingRefresh ??= setTimeout(() => {
    pendingRefresh = null;
    attempt(() => Promise.all([refreshOverview(), history.refresh()]));
  }, DEBOUNCE);
}

detail.start();
fold();
active.start();
chart.start();
events.start();
history.start();
repeat(refreshOverview, () => OVERVIEW_INTERVAL);
repeat(refreshUploads, () => (isStreaming ? UPLOADS_INTERVAL.streaming : UPLOADS_INTERVAL.polling));
repeat(() => Promise.all([chart.refresh(), system.refreshKeys(), links.refresh()]), () => SLOW_INTERVAL);
subscribe((event) => {
  if (event.type === 'reset') {
    attempt(refreshUploads);
    return;
  }
  active.apply(event);
  detail.apply(event);
  if (event.type !== 'UploadProgress') refreshSoon();
}, (isConnected) => {
  isStreaming = isConnected;
  setText(document.getElementById('link'), isConnected ? 'live' : 'polling every few seconds');
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) attempt(() => Promise.all([refreshOverview(), refreshUploads(), chart.refresh()]));
});
