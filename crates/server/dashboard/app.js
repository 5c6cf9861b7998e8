// Puts the parts of the page together and keeps them fresh.

import * as api from './api.js';
import * as chart from './chart.js';
import * as events from './events.js';
import * as history from './history.js';
import { listen } from './news.js';
import { say } from './row.js';
import * as system from './system.js';
import * as underWay from './under-way.js';

/** Between two looks at the figures, in milliseconds. */
const FIGURES = 5000;

/** Between two looks at the uploads: often if nothing tells of them, seldom otherwise. */
const UPLOADS = { told: 10_000, untold: 3000 };

/** Between two looks at what changes slowly. */
const SLOW = 30_000;

/** After an event that changes the totals, so that many events are one look. */
const SOON = 800;

const notice = document.getElementById('notice');

let isTold = false;
let soon = null;

/** Does something, and says on the page what keeps it from being done. */
async function attempt(does) {
  try {
    await does();
    notice.hidden = true;
  } catch (error) {
    const words = error instanceof api.Refused
      ? error.message
      : 'The server can’t be reached. What is shown is old; the page goes on trying.';
    say(notice, words);
    notice.hidden = false;
  }
}

/** Repeats something while somebody looks. */
function repeat(does, pause) {
  const once = async () => {
    if (!document.hidden) await attempt(does);
    setTimeout(once, pause());
  };
  once();
}

async function figures() {
  const overview = await api.overview();
  system.show(overview);
  await events.refresh(overview.outbox);
}

async function uploads() {
  await Promise.all([underWay.refresh(), history.refresh()]);
}

/** Looks at the figures and the list soon, since something began or ended. */
function look() {
  soon ??= setTimeout(() => {
    soon = null;
    attempt(() => Promise.all([figures(), history.refresh()]));
  }, SOON);
}

chart.start();
events.start();
history.start();
repeat(figures, () => FIGURES);
repeat(uploads, () => (isTold ? UPLOADS.told : UPLOADS.untold));
repeat(() => Promise.all([chart.refresh(), system.keys()]), () => SLOW);
listen((event) => {
  if (event.type === 'reset') {
    attempt(uploads);
    return;
  }
  underWay.follow(event);
  if (event.type !== 'UploadProgress') look();
}, (isThere) => {
  isTold = isThere;
  say(document.getElementById('link'), isThere ? 'live' : 'asking every few seconds');
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) attempt(() => Promise.all([figures(), uploads(), chart.refresh()]));
});
