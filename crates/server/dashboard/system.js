// The server itself: totals, storage, health, keys.

import * as api from './api.js';
import { announce } from './announce.js';
import { bytes, clock, number, rate, some, span, timeOf } from './format.js';
import { say } from './row.js';

const part = (id) => document.getElementById(id);

const PARTS = { store: 'Store', leases: 'Leases', database: 'Database', hooks: 'Hooks' };

let wasWell = null;

/** Shows the figures of an overview. */
export function show(overview) {
  totals(overview);
  health(overview);
  storage(overview);
  outbox(overview.outbox);
  say(part('uptime'), `running for ${span(overview.uptime_seconds)}`);
  const all = Object.values(overview.jobs).reduce((sum, count) => sum + count, 0);
  part('how').hidden = all > 0;
}

function totals({ jobs, rate: coming, completed_bytes: stored }) {
  const of = (...states) => states.reduce((sum, state) => sum + (jobs[state] ?? 0), 0);
  say(part('sum-live'), number(of('started', 'progress')));
  say(part('sum-received'), `${number(of('received'))} granted, not begun`);
  say(part('sum-rate'), rate(coming));
  say(part('sum-completed'), number(of('completed')));
  say(part('sum-bytes'), bytes(stored));
  say(part('sum-lost'), number(of('failed', 'cancelled', 'expired')));
  say(part('sum-why'), `${number(of('failed'))} failed, ${number(of('cancelled'))} cancelled, ${number(of('expired'))} expired`);
}

function health({ health: checks, now }) {
  const ill = checks.filter(({ well }) => !well);
  const chip = part('well');
  const isWell = ill.length === 0;
  const words = isWell ? 'All is well' : `Trouble: ${ill.map((check) => PARTS[check.part].toLowerCase()).join(', ')}`;
  say(chip, words);
  chip.dataset.well = isWell;
  if (wasWell !== null && wasWell !== isWell) announce(`${words}.`);
  wasWell = isWell;
  say(part('checked'), `Looked at ${clock(now)}`);
  keep(part('health'), checks, () => checks.map((check) => {
    const item = document.createElement('li');
    item.dataset.well = check.well;
    const words = document.createElement('div');
    const name = document.createElement('strong');
    name.textContent = `${PARTS[check.part]}: ${check.name}`;
    const how = document.createElement('p');
    how.textContent = check.words;
    words.append(name, how);
    const state = document.createElement('span');
    state.className = 'badge';
    state.textContent = check.well ? 'Well' : 'Trouble';
    item.append(words, state);
    return item;
  }));
}

function storage({ storage: room, completed_bytes: stored }) {
  keep(part('storage'), [room, stored], () => {
    const pairs = [['Place', room.place], ['Completed uploads', bytes(stored)]];
    const made = [];
    if (room.capacity != null && room.free != null) {
      const used = room.capacity - room.free;
      const share = room.capacity === 0 ? 0 : used / room.capacity;
      const meter = document.createElement('progress');
      meter.max = 1;
      meter.value = share;
      meter.setAttribute('aria-label', 'Share of the disk that is used');
      meter.className = share > 0.9 ? 'tight' : '';
      made.push(meter);
      pairs.push(['Free', `${bytes(room.free)} of ${bytes(room.capacity)} (${Math.floor((1 - share) * 100)} %)`]);
    }
    made.push(definitions(pairs));
    return made;
  });
}

function outbox(box) {
  keep(part('outbox'), box, () => {
    if (box == null) return [paragraph('Nobody is told of uploads.')];
    const pairs = box.transports.map((way) => [way.name, [
      way.waiting === 0 ? 'nothing waits' : `${some(way.waiting, 'event')} for ${span(way.oldest_seconds)}`,
      `${number(way.delivered)} delivered`,
      ...(way.failed > 0 ? [`${some(way.failed, 'attempt')} failed`] : []),
    ].join(', ')]);
    pairs.push(['Room', `${number(box.rows)} of ${some(box.limit, 'row')} used`]);
    return [definitions(pairs)];
  });
}

/** Asks for the keys and shows their names. */
export async function keys() {
  const { keys: found } = await api.keys();
  keep(part('keys'), found, () => {
    if (found.length === 0) return [paragraph('None. “landfall keys add” makes one.')];
    const list = document.createElement('ul');
    list.className = 'plain';
    for (const key of found) {
      const item = document.createElement('li');
      const name = document.createElement('strong');
      name.textContent = key.name;
      item.append(name, ` for ${key.subject}${key.admin ? ', admin' : ''} · `);
      if (key.used_at) item.append('used ', timeOf(key.used_at));
      else item.append('never used');
      if (key.expires_at) item.append(' · until ', timeOf(key.expires_at));
      list.append(item);
    }
    return [list];
  });
}

const kept = new WeakMap();

/** Makes the content of a place anew only if what it shows is something else. */
function keep(place, shown, make) {
  const text = JSON.stringify(shown);
  if (kept.get(place) === text) return;
  kept.set(place, text);
  place.replaceChildren(...make());
}

function definitions(pairs) {
  const list = document.createElement('dl');
  list.className = 'pairs';
  for (const [name, value] of pairs) {
    const pair = document.createElement('div');
    const term = document.createElement('dt');
    const words = document.createElement('dd');
    term.textContent = name;
    words.textContent = value;
    pair.append(term, words);
    list.append(pair);
  }
  return list;
}

function paragraph(text) {
  const element = document.createElement('p');
  element.className = 'soft';
  element.textContent = text;
  return element;
}
