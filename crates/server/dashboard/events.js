// Events that could not be delivered.

import * as api from './api.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { number, some, timeOf } from './format.js';

const part = (id) => document.getElementById(id);
const list = part('dead');
const template = part('dead-row');

let has = null;

export function start() {
  part('retry-all').addEventListener('click', () => change(api.retry, { all: true }, 'tried again'));
  part('drop-all').addEventListener('click', () => dropped({ all: true }, 'All of them'));
}

/** Shows what there is; `outbox` is that of the overview. */
export async function refresh(outbox) {
  has = outbox;
  const { events, has_more: hasMore } = await api.dead();
  const known = [...list.children].map(({ dataset }) => dataset.key);
  const keys = events.map((event) => `${event.id} ${event.transport} ${event.attempts}`);
  if (known.join('\n') !== keys.join('\n')) {
    const hadFocus = list.contains(document.activeElement);
    list.replaceChildren(...events.map((event, at) => line(event, keys[at])));
    if (hadFocus) part('undelivered').focus();
  }
  part('dead-tools').hidden = events.length === 0;
  part('dead-more').hidden = !hasMore;
  part('dead-none').hidden = events.length > 0;
  part('dead-none').textContent = outbox == null
    ? 'This server tells nobody of uploads. Hooks do that: see the settings that begin with hooks-.'
    : 'Every event has arrived, or will be tried again by itself.';
  const count = outbox?.transports.reduce((sum, { dead }) => sum + dead, 0) ?? 0;
  const all = Math.max(count, events.length);
  part('dead-count').hidden = all === 0;
  part('dead-count').textContent = number(all);
}

function line(event, key) {
  const element = template.content.firstElementChild.cloneNode(true);
  element.dataset.key = key;
  const of = `${event.hook} of ${event.filename ?? event.upload_id}`;
  element.querySelector('.name').textContent = of;
  element.querySelector('.why').textContent = event.error ?? 'Nothing is known about why.';
  element.querySelector('.about').append(
    `${event.transport} · ${some(event.attempts, 'attempt')} · given up `,
    timeOf(event.since),
  );
  for (const name of element.querySelectorAll('.of')) name.textContent = ` ${of}`;
  const which = { ids: [event.id] };
  element.querySelector('.retry').addEventListener('click', () => change(api.retry, which, 'tried again'));
  element.querySelector('.drop').addEventListener('click', () => dropped(which, of));
  return element;
}

async function dropped(which, what) {
  const sure = await confirm({
    title: 'Drop for good?',
    words: `${what}: your application will never be told.`,
    yes: 'Drop',
    no: 'Keep',
  });
  if (sure) await change(api.drop, which, 'dropped');
}

async function change(does, which, done) {
  try {
    const { changed } = await does(which);
    announce(`${some(changed, 'event')} ${done}.`);
    await refresh(has);
  } catch (error) {
    announce(error.message);
    part('dead-none').hidden = false;
    part('dead-none').textContent = error.message;
  }
}
