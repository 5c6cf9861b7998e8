// The throughput of the last hour, as a bar chart and a table.

import * as api from './api.js';
import { bytes, number, rate, timeOfDay } from './format.js';
import { setText } from './row.js';

const SVG = 'http://www.w3.org/2000/svg';
const MINUTES = 60;
const HEIGHT = 190;
const MARGIN = { top: 12, right: 4, bottom: 26, left: 78 };
/** Minutes between two labels of the axis, also in a narrow chart. */
const LABEL_MINUTES = 15;
const NARROW_LABEL_MINUTES = 30;
const NARROW_WIDTH = 480;

const container = document.getElementById('chart');
const table = document.getElementById('chart-table');
const body = document.getElementById('minutes');

let minutes = [];
let width = 0;

export function start() {
  new ResizeObserver(([entry]) => {
    const wide = Math.round(entry.contentRect.width);
    if (wide === width) return;
    width = wide;
    draw();
  }).observe(container);
  table.addEventListener('toggle', fill);
}

export async function refresh() {
  ({ minutes } = await api.throughput(MINUTES));
  draw();
  fill();
  setText(document.getElementById('throughput-summary'), summary());
}

function summary() {
  const sum = minutes.reduce((all, one) => all + one.bytes, 0);
  if (sum === 0) return 'No data received';
  const peak = minutes.reduce((best, one) => (one.bytes > best.bytes ? one : best));
  return `${bytes(sum)} in total, peak ${rate(peak.bytes / 60)} at ${timeOfDay(peak.minute)}`;
}

/** Draws the bars: the average bytes per second of each minute. */
function draw() {
  if (width === 0 || minutes.length === 0) return;
  const rates = minutes.map((one) => one.bytes / 60);
  const scale = ticks(Math.max(...rates));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const y = (value) => MARGIN.top + inner.height * (1 - value / scale.top);
  const step = inner.width / minutes.length;
  const x = (at) => MARGIN.left + at * step;

  const drawing = make('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img' });
  const title = make('title');
  title.textContent = `Bytes received per second in each of the last ${MINUTES} minutes. ${summary()}.`;
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
    tooltip.textContent = `${timeOfDay(minutes[at].minute)}: ${rate(value)}, ${bytes(minutes[at].bytes)}`;
    bar.append(tooltip);
    drawing.append(bar);
  });
  const interval = width < NARROW_WIDTH ? NARROW_LABEL_MINUTES : LABEL_MINUTES;
  // Labels at round times that fit the width.
  minutes.forEach((one, at) => {
    const isRound = new Date(one.minute).getMinutes() % interval === 0;
    const middle = x(at) + step / 2;
    if (!isRound || middle > width - 28) return;
    drawing.append(
      make('line', { class: 'axis', x1: middle, x2: middle, y1: y(0), y2: y(0) + 4 }),
      label(middle, HEIGHT - 7, 'middle', timeOfDay(one.minute)),
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
    minute.textContent = timeOfDay(one.minute);
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
  const unit = 1024 ** Math.floor(Math.log2(Math.max(max, 1)) / 10);
  const raw = max / unit / 3;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((wide) => wide >= raw) * unit;
  const count = Math.ceil(max / step);
  return { top: step * count, values: Array.from({ length: count + 1 }, (_, at) => at * step) };
}

function label(x, y, anchor, text) {
  const element = make('text', { x, y, 'text-anchor': anchor });
  element.textContent = text;
  return element;
}

function make(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

