// The server itself: totals, storage, health, keys.

import * as api from './api.js';
import { announce } from './announce.js';
import { bytes, count, duration, moment, number, rate, timeElement } from './format.js';
import { setText } from './row.js';

const part = (id) => document.getElementById(id);

const COMPONENTS = {
  store: 'Store', disk: 'Disk', leases: 'Leases', database: 'Database', hooks: 'Hooks', events: 'Undelivered events',
  limits: 'Limits',
};

let wasHealthy = null;

/** Shows an overview. */
export function show(overview) {
  totals(overview);
  health(overview);
  storage(overview);
  outbox(overview.outbox);
  setText(part('uptime'), `running for ${duration(overview.uptime_seconds)}`);
  const all = Object.values(overview.jobs).reduce((sum, count) => sum + count, 0);
  part('getting-started').hidden = all > 0;
}

function totals({ jobs, receiving, rate: received, completed_bytes: stored }) {
  const sum = (...states) => states.reduce((total, state) => total + (jobs[state] ?? 0), 0);
  setText(part('sum-live'), number(sum('started', 'progress')));
  const active = receiving == null ? [] : [`${number(receiving)} receiving`, `${number(Math.max(0, sum('started', 'progress') - receiving))} waiting`];
  setText(part('sum-received'), [...active, `${number(sum('received'))} granted`].join(', '));
  setText(part('sum-rate'), rate(received));
  setText(part('sum-completed'), number(sum('completed')));
  setText(part('sum-bytes'), bytes(stored) + (jobs.removed > 0 ? `, ${number(jobs.removed)} removed since` : ''));
  setText(part('sum-lost'), number(sum('failed', 'cancelled', 'expired')));
  setText(part('sum-why'), `${number(sum('failed'))} failed or denied, ${number(sum('cancelled'))} cancelled, ${number(sum('expired'))} expired`);
}

function health({ health: checks, conditions, now }) {
  const unhealthy = checks.filter(({ healthy }) => !healthy);
  const statusBadge = part('health-status');
  const isHealthy = unhealthy.length === 0;
  const components = [...new Set(unhealthy.map((check) => COMPONENTS[check.component].toLowerCase()))].join(', ');
  const message = isHealthy ? 'Healthy' : `Unhealthy: ${components}`;
  setText(part('health-word'), isHealthy ? 'Healthy' : 'Unhealthy');
  setText(part('health-components'), isHealthy ? '' : `: ${components}`);
  statusBadge.dataset.healthy = isHealthy;
  if (wasHealthy !== null && wasHealthy !== isHealthy) announce(`${message}.`);
  wasHealthy = isHealthy;
  setText(part('checked'), `Checked on ${moment(now)}`);
  setText(part('health-sum'), `${number(checks.length - unhealthy.length)} of ${count(checks.length, 'check')} passed`);
  render(part('conditions'), conditions, () => conditions.map(conditionItem));
  const healthy = checks.filter((check) => check.healthy);
  render(part('health'), healthy, () => healthy.map(checkItem));
}

function checkItem({ component, name, message }) {
  return healthItem(true, `${COMPONENTS[component]}: ${name}`, 'Healthy', [message]);
}

/** A condition of the server: the problem, since when, and what to do. */
function conditionItem({ component, subject, effect, text, detail, remedy, since, count: times }) {
  const name = [COMPONENTS[component], ...(subject ? [subject] : [])].join(': ');
  const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
  const happened = effect === 'occurrence' ? `${count(times, 'time')} since ` : 'Since ';
  const lines = [sentence(detail ? `${text}: ${detail}` : text), [happened, timeElement(since), `. ${sentence(remedy)}`]];
  return healthItem(false, name, effect === 'occurrence' ? 'Notice' : 'Unhealthy', lines);
}

function healthItem(isHealthy, name, state, lines) {
  const item = document.createElement('li');
  item.dataset.healthy = isHealthy;
  const text = document.createElement('div');
  const title = document.createElement('strong');
  title.textContent = name;
  text.append(title);
  for (const line of lines) {
    const description = document.createElement('p');
    description.append(...[line].flat());
    text.append(description);
  }
  const badge = document.createElement('span');
  badge.className = 'badge';
  badge.textContent = state;
  item.append(text, badge);
  return item;
}

function storage({ storage: capacity, completed_bytes: stored }) {
  render(part('storage'), [capacity, stored], () => {
    const pairs = [['Location', capacity.location], ['Completed uploads', bytes(stored)]];
    const elements = [];
    if (capacity.capacity != null && capacity.free != null) {
      const used = capacity.capacity - capacity.free;
      const share = capacity.capacity === 0 ? 0 : used / capacity.capacity;
      const meter = document.createElement('progress');
      meter.max = 1;
      meter.value = share;
      meter.setAttribute('aria-label', 'Disk usage');
      meter.className = share > 0.9 ? 'tight' : '';
      elements.push(meter);
      pairs.push(['Free', `${bytes(capacity.free)} of ${bytes(capacity.capacity)} (${Math.floor((1 - share) * 100)} %)`]);
    }
    elements.push(definitions(pairs));
    return elements;
  });
}

function outbox(stats) {
  render(part('outbox'), stats, () => {
    if (stats == null) return [paragraph('No hooks configured.')];
    const pairs = stats.transports.map((transport) => [transport.name, [
      transport.pending === 0 ? 'none pending' : `${count(transport.pending, 'event')} pending${transport.oldest_seconds > 0 ? ` for ${duration(transport.oldest_seconds)}` : ''}`,
      `${number(transport.delivered)} delivered`,
      ...(transport.failed > 0 ? [`${count(transport.failed, 'attempt')} failed`] : []),
    ].join(', ')]);
    // Running uploads reserve some.
    pairs.push(['Capacity', `${number(stats.queued)} of ${count(stats.limit, 'event')} used`]);
    return [definitions(pairs)];
  });
}

/** Loads and shows the API keys. */
export async function refreshKeys() {
  const { keys: found } = await api.keys();
  render(part('keys'), found, () => {
    if (found.length === 0) return [paragraph('None. Create one with “landfall keys add”.')];
    const list = document.createElement('ul');
    list.className = 'plain';
    for (const key of found) {
      const item = document.createElement('li');
      const name = document.createElement('strong');
      name.textContent = key.name;
      item.append(name, ` for ${key.subject}${key.admin ? ', admin' : ''} · `);
      if (key.used_at) item.append('used ', timeElement(key.used_at));
      else item.append('never used');
      if (key.expires_at) item.append(' · expires ', timeElement(key.expires_at));
      list.append(item);
    }
    return [list];
  });
}

const rendered = new WeakMap();

/** Renders the content of an element if its data has changed. */
function render(element, data, create) {
  const text = JSON.stringify(data);
  if (rendered.get(element) === text) return;
  rendered.set(element, text);
  element.replaceChildren(...create());
}

/** A list of names and values; a value may be text or an element. */
export function definitions(pairs) {
  const list = document.createElement('dl');
  list.className = 'pairs';
  for (const [name, value] of pairs) {
    const pair = document.createElement('div');
    const term = document.createElement('dt');
    const description = document.createElement('dd');
    term.textContent = name;
    description.append(value);
    pair.append(term, description);
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
