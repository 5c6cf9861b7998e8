// Events that failed, grouped by their error: dead letters, and those that are retried.

import * as api from './api.js';
import { announce } from './announce.js';
import { confirm } from './confirm.js';
import { count, number, timeElement } from './format.js';
import { setText } from './row.js';

const part = (id) => document.getElementById(id);
const list = part('dead');
const template = part('dead-row');

/** Maximum number of listed events of a group. */
const MAX_MEMBERS = 50;

/** The displayed groups, to update only when they change. */
let listed = '';

export function start() {
  part('retry-all').addEventListener('click', () => confirmRetry({ all: true }, 'All undelivered events'));
  part('delete-all').addEventListener('click', () => confirmDelete({ all: true }, 'All undelivered events'));
}

/** Loads and shows the failed events; `outbox` is that of the overview. */
export async function refresh(outbox) {
  const { groups } = await api.failedEvents();
  const text = JSON.stringify(groups);
  if (text !== listed) {
    listed = text;
    const hadFocus = list.contains(document.activeElement);
    const open = new Set([...list.querySelectorAll('details[open]')].map(({ dataset }) => dataset.key));
    list.replaceChildren(...groups.map((group) => groupItem(group, open)));
    if (hadFocus) part('undelivered').focus();
  }
  const dead = groups.filter(({ state }) => state === 'dead');
  part('dead-tools').hidden = dead.length < 2;
  part('dead-none').hidden = groups.length > 0;
  part('dead-none').textContent = outbox == null
    ? 'No hooks configured. See --hooks-http.'
    : 'All events were delivered or wait for an attempt.';
  const transports = outbox?.transports ?? [];
  setText(part('dead-waiting'), transports.map((transport) => waiting(transport, groups)).join(''));
  const total = transports.reduce((sum, transport) => sum + transport.dead_letters, 0);
  const grouped = dead.reduce((sum, group) => sum + group.count, 0);
  const late = transports.filter((transport) => transport.next_attempt_seconds != null);
  const shown = late.reduce((sum, { pending }) => sum + pending, Math.max(total, grouped));
  setText(part('dead-more'), total > grouped ? `The most frequent errors: ${number(grouped)} of ${count(total, 'event')}.` : '');
  part('dead-count').hidden = shown === 0;
  part('dead-count').textContent = number(shown);
}

/** Events that are not in a group, because their receiver fails and one event is tried at a time. */
function waiting({ name, pending, next_attempt_seconds: seconds }, groups) {
  const retried = groups.filter(({ state, transport }) => state === 'pending' && transport === name);
  const more = pending - retried.reduce((sum, group) => sum + group.count, 0);
  if (seconds == null || more <= 0) return '';
  const next = seconds === 0 ? 'now' : `within ${seconds} s`;
  return `${count(more, 'more event')} for ${name} wait: while it fails, one is tried at a time, the next ${next}. `;
}

/** Events of one name that failed with the same error. */
function groupItem({ count: sum, since, ...group }, open) {
  const isDead = group.state === 'dead';
  const element = item(`${number(sum)} × ${group.event}`, group.error, { group }, sum > 1 ? ' all' : '');
  element.querySelector('.about').append(`${group.transport} · ${isDead ? 'dead' : 'retried'} since `, timeElement(since));
  if (!isDead) element.querySelector('.delete').remove();
  const members = document.createElement('details');
  members.dataset.key = JSON.stringify(group);
  members.append(document.createElement('summary'), document.createElement('ul'));
  members.firstElementChild.textContent = sum === 1 ? 'Show the event' : 'Show the events';
  members.addEventListener('toggle', () => {
    if (members.open) showMembers(members.lastElementChild, group, sum);
  });
  members.open = open.has(members.dataset.key);
  element.append(members);
  return element;
}

async function showMembers(place, group, sum) {
  try {
    const { events } = await api.deadLetters({ ...group, limit: MAX_MEMBERS });
    place.replaceChildren(...events.map(eventItem));
    if (sum > events.length) place.append(`The newest ${events.length} of ${number(sum)}.`);
  } catch (error) {
    place.textContent = error.message;
  }
}

function eventItem(event) {
  const element = item(`${event.event} of ${event.filename ?? event.upload_id}`, '', { ids: [event.id] });
  element.querySelector('.about').append(
    `${count(event.attempts, 'attempt')} · ${event.dead_at ? 'dead since' : 'next attempt'} `,
    timeElement(event.dead_at ?? event.due_at),
  );
  // The group is retried, and the page of the upload shows it.
  if (!event.dead_at) element.querySelector('.tools').remove();
  return element;
}

function item(name, error, selection, which = '') {
  const element = template.content.firstElementChild.cloneNode(true);
  element.querySelector('.name').textContent = name;
  element.querySelector('.error').textContent = error;
  const [retry, remove] = element.querySelectorAll('button');
  for (const button of [retry, remove]) {
    button.firstChild.data += which;
    button.querySelector('.of').textContent = ` ${name}`;
  }
  retry.addEventListener('click', () => confirmRetry(selection, name));
  remove.addEventListener('click', () => confirmDelete(selection, name));
  return element;
}

async function confirmRetry(selection, name) {
  if (await retryQuestion(name)) await change(api.retryDeadLetters, selection, 'scheduled');
}

/** Confirms that an event is to be delivered again. */
export const retryQuestion = (name) => confirm({
  title: 'Deliver again?',
  message: `${name}: sent to your application now, and retried like a new event.`,
  yes: 'Retry',
  no: 'Not now',
});

async function confirmDelete(selection, name) {
  const isConfirmed = await confirm({
    title: 'Delete permanently?',
    message: `${name}: your application will never be notified.`,
    yes: 'Delete',
    no: 'Keep',
  });
  if (isConfirmed) await change(api.deleteDeadLetters, selection, 'deleted');
}

async function change(action, selection, participle) {
  try {
    const { changed } = await action(selection);
    announce(`${count(changed, 'event')} ${participle}.`);
    // The counts of the last overview are from before.
    await refresh((await api.overview()).outbox);
  } catch (error) {
    announce(error.message);
    part('dead-none').hidden = false;
    setText(part('dead-none'), error.message);
  }
}
