// Dead letters: events that could not be delivered.

import * as api from './api.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { count, number, timeElement } from './format.js';
import { setText } from './row.js';

const part = (id) => document.getElementById(id);
const list = part('dead');
const template = part('dead-row');

let currentOutbox = null;

export function start() {
  part('retry-all').addEventListener('click', () => confirmRetry({ all: true }, 'All of them'));
  part('delete-all').addEventListener('click', () => confirmDelete({ all: true }, 'All of them'));
}

/** Loads and shows the dead letters; `outbox` is that of the overview. */
export async function refresh(outbox) {
  currentOutbox = outbox;
  const { events, has_more: hasMore } = await api.deadLetters();
  const shownKeys = [...list.children].map(({ dataset }) => dataset.key);
  const keys = events.map((event) => `${event.id} ${event.transport} ${event.attempts}`);
  if (shownKeys.join('\n') !== keys.join('\n')) {
    const hadFocus = list.contains(document.activeElement);
    list.replaceChildren(...events.map((event, index) => row(event, keys[index])));
    if (hadFocus) part('undelivered').focus();
  }
  part('dead-tools').hidden = events.length < 2;
  part('dead-more').hidden = !hasMore;
  part('dead-none').hidden = events.length > 0;
  part('dead-none').textContent = outbox == null
    ? 'No hooks configured. See --hooks-http.'
    : 'All events were delivered or will be retried.';
  const total = outbox?.transports.reduce((sum, transport) => sum + transport.dead_letters, 0) ?? 0;
  const shown = Math.max(total, events.length);
  part('dead-count').hidden = shown === 0;
  part('dead-count').textContent = number(shown);
}

function row(event, key) {
  const element = template.content.firstElementChild.cloneNode(true);
  element.dataset.key = key;
  const name = `${event.event} of ${event.filename ?? event.upload_id}`;
  element.querySelector('.name').textContent = name;
  element.querySelector('.error').textContent = event.error ?? 'Unknown error.';
  element.querySelector('.about').append(
    `${event.transport} · ${count(event.attempts, 'attempt')} · dead since `,
    timeElement(event.dead_at),
  );
  for (const target of element.querySelectorAll('.of')) target.textContent = ` ${name}`;
  const selection = { ids: [event.id] };
  element.querySelector('.retry').addEventListener('click', () => confirmRetry(selection, name));
  element.querySelector('.delete').addEventListener('click', () => confirmDelete(selection, name));
  return element;
}

async function confirmRetry(selection, name) {
  if (await retryQuestion(name)) await change(api.retryDeadLetters, selection, 'scheduled');
}

/** Confirms that an event is to be delivered again. */
export const retryQuestion = (name) => confirm({
  title: 'Deliver again?',
  message: `${name}: the event is sent to your application now, and retried as a new one.`,
  yes: 'Retry',
  no: 'Not now',
});

async function confirmDelete(selection, name) {
  const isConfirmed = await confirm({
    title: 'Delete permanently?',
    message: `${name}: your application will not receive this.`,
    yes: 'Delete',
    no: 'Keep',
  });
  if (isConfirmed) await change(api.deleteDeadLetters, selection, 'deleted');
}

async function change(action, selection, participle) {
  try {
    const { changed } = await action(selection);
    announce(`${count(changed, 'event')} ${participle}.`);
    await refresh(currentOutbox);
  } catch (error) {
    announce(error.message);
    part('dead-none').hidden = false;
    setText(part('dead-none'), error.message);
  }
}
