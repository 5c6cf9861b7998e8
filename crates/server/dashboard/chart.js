// The throughput of an hour, a day or a week, as a bar chart and a table.

import * as api from './api.js';
import { bytes, count, day, moment, number, rate, timeElement, timeOfDay } from './format.js';
import { setText } from './row.js';

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 190;
const MARGIN = { top: 12, right: 4, bottom: 26, left: 78 };
/** Minutes between two labels of the axis, by the range in minutes; twice that in a narrow chart. */
const LABEL_MINUTES = { 60: 15, 1440: 180, 10080: 1440 };
const NARROW_WIDTH = 480;

const part = (id) => document.getElementById(id);
const container = document.getElementById('chart');
const table = document.getElementById('chart-table');
const body = document.getElementById('minutes');

let minutes = [];
/** Minutes per bar. */
let interval = 1;
let lastRequest = 0;
let width = 0;

export function start() {
  new ResizeObserver(([entry]) => {
    const wide = Math.round(entry.contentRect.width);
    if (wide === width) return;
    width = wide;
    draw();
  }).observe(container);
  table.addEventListener('toggle', fill);
  for (const id of ['range', 'node']) part(id).addEventListener('change', () => refresh().catch(showError));
}

function showError(error) {
  setText(part('throughput-summary'), error.message);
}

/** Lists the nodes of the range; the chosen one stays. */
function fillNodes(nodes) {
  const select = part('node');
  const wanted = ['', ...new Set([...nodes, ...(select.value ? [select.value] : [])])];
  if ([...select.options].map(({ value }) => value).join('\n') === wanted.join('\n')) return;
  const { value } = select;
  select.replaceChildren(...wanted.map((name) => new Option(name || 'All nodes', name)));
  select.value = value;
}

export async function refresh() {
  lastRequest += 1;
  const request = lastRequest;
  const found = await api.throughput({ minutes: part('range').value, node: part('node').value });
  // A newer request was sent meanwhile.
  if (request !== lastRequest) return;
  ({ minutes, interval_minutes: interval } = found);
  fillNodes(found.nodes);
  setText(part('interval'), interval === 1 ? 'Minute' : `${interval} min from`);
  draw();
  fill();
  setText(document.getElementById('throughput-summary'), summary());
}

function summary() {
  const sum = minutes.reduce((all, one) => all + one.bytes, 0);
  if (sum === 0) return 'No data received';
  const peak = minutes.reduce((best, one) => (one.bytes > best.bytes ? one : best));
  return `${bytes(sum)} in total, peak ${rate(rateOf(peak))} on ${moment(peak.minute)}`;
}

/** The average bytes per second of an interval. */
const rateOf = (one) => one.bytes / (interval * 60);

/** Draws the bars. */
function draw() {
  if (width === 0 || minutes.length === 0) return;
  const rates = minutes.map(rateOf);
  const scale = ticks(Math.max(...rates));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const y = (value) => MARGIN.top + inner.height * (1 - value / scale.top);
  const step = inner.width / minutes.length;
  const x = (at) => MARGIN.left + at * step;

  const drawing = make('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img' });
  const title = make('title');
  title.textContent = `Bytes received per second, each bar over ${count(interval, 'minute')}. ${summary()}.`;
  drawing.append(title);
  for (const value of scale.values) {
    drawing.append(
      make('line', { class: value === 0 ? 'axis' : 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      label(MARGIN.left - 8, y(value) + 4, 'end', value === 0 ? '0' : rate(value)),
    );
  }
  rates.forEach((value, at) => {
    if (value === 0) return;
    const high = Math.max(2, inner.height * (value / scale.top));
    const bar = make('rect', {
      class: 'bar', x: x(at) + step * 0.12, width: Math.max(1, step * 0.76), y: MARGIN.top + inner.height - high, height: high, rx: Math.min(2, step / 4),
    });
    const tooltip = make('title');
    tooltip.textContent = `${moment(minutes[at].minute)}: ${rate(value)}, ${bytes(minutes[at].bytes)}`;
    bar.append(tooltip);
    drawing.append(bar);
  });
  const range = Number(part('range').value);
  const spacing = LABEL_MINUTES[range] * (width < NARROW_WIDTH ? 2 : 1);
  // Labels at round times that fit the width.
  minutes.forEach((one, at) => {
    const when = new Date(one.minute);
    // Minutes of local time, since the first of January.
    const local = Math.round((when - new Date(when.getFullYear(), 0)) / 60_000);
    const isRound = local % spacing < interval;
    const middle = x(at) + step / 2;
    if (!isRound || middle > width - 28) return;
    drawing.append(
      make('line', { class: 'axis', x1: middle, x2: middle, y1: y(0), y2: y(0) + 4 }),
      label(middle, HEIGHT - 7, 'middle', (spacing < 1440 ? timeOfDay : day)(one.minute)),
    );
  });
  container.replaceChildren(drawing);
}

/** Fills the long table only while it is open. */
function fill() {
  if (!table.open) {
    body.replaceChildren();
    return;
  }
  body.replaceChildren(...minutes.toReversed().map((one) => {
    const line = document.createElement('tr');
    const minute = document.createElement('th');
    minute.scope = 'row';
    minute.append(timeElement(one.minute));
    line.append(minute);
    for (const text of [bytes(one.bytes), number(one.started), number(one.completed), number(one.failed)]) {
      const cell = document.createElement('td');
      cell.className = 'number';
      cell.textContent = text;
      line.append(cell);
    }
    return line;
  }));
}

/** Returns three or four round axis values, 1, 2 or 5 units apart, up to at least `max`. */
export function ticks(max) {
  if (max <= 0) return { top: 1, values: [0] };
  const unit = 1000 ** Math.floor(Math.log10(Math.max(max, 1)) / 3);
  const raw = max / unit / 3;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((wide) => wide >= raw) * unit;
  const count = Math.ceil(max / step);
  return { top: step * count, values: Array.from({ length: count + 1 }, (_, at) => at * step) };
}

/** An SVG text. */
export function label(x, y, anchor, text) {
  const element = make('text', { x, y, 'text-anchor': anchor });
  element.textContent = text;
  return element;
}

/** An SVG element. */
export function make(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
