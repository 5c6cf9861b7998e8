// The totals of the list: the summary above the list, its bar, and the title and the icon of the tab.

import { SpeedMeter, bytes, pace, percentage } from './format.js';
import { text } from './i18n.js';

/** The groups of the summary are the keys of their texts. Other states only add to the number of files. */
const GROUPS = {
  creating: 'overall_running',
  checking: 'overall_running',
  uploading: 'overall_running',
  waiting: 'overall_waiting',
  queued: 'overall_queued',
  restoring: 'overall_queued',
  paused: 'overall_paused',
  'needs-file': 'overall_blocked',
  'needs-permission': 'overall_blocked',
  'in-other-tab': 'overall_other_tab',
  failed: 'overall_failed',
  rejected: 'overall_failed',
  done: 'overall_done',
};

/** Groups that are still to be uploaded, in the order of the summary. */
const OPEN = ['overall_running', 'overall_waiting', 'overall_queued', 'overall_paused', 'overall_blocked'];

/** Groups that this tab does not upload: of their bytes, those on the server count. */
const OTHERS = ['overall_other_tab', 'overall_failed'];

/** Groups that need nothing from the user. */
const ACTIVE = OPEN.slice(0, 3);

const byId = (id) => document.getElementById(id);

/** @typedef {ReturnType<import('./item.js').Item['snapshot']>} Snapshot */

export class Overall {
  #meter = new SpeedMeter();
  /** The sums of finished uploads that left the list: without them, the total would go backwards. */
  #cleared = { files: 0, size: 0, moved: 0 };
  /** The sums when nothing was to be uploaded: the bar and the title begin there. */
  #before = { sent: 0, size: 0 };
  #title = document.title;
  #icon = document.querySelector('link[rel=icon]');
  #logo = this.#icon.href;

  /** Adds an upload that left the list; one that is not finished no longer counts. */
  keep({ state, size, restored }) {
    if (state !== 'done') return;
    this.#cleared.files += 1;
    this.#cleared.size += size;
    this.#cleared.moved += size - restored;
  }

  /** Measures the speed; called several times a second. */
  tick(snapshots, now) {
    const { counts, moved } = this.#sum(snapshots);
    if (counts.overall_running > 0) this.#meter.sample(moved, now);
    else this.#meter.reset();
  }

  /** Updates the summary. */
  show(snapshots) {
    if (snapshots.length === 0) this.#cleared = { files: 0, size: 0, moved: 0 };
    const { counts, files, ...sums } = this.#sum(snapshots);
    const isOpen = OPEN.some((group) => counts[group] > 0);
    if (!isOpen) this.#before = sums;
    const [sent, size] = ['sent', 'size'].map((sum) => Math.max(0, sums[sum] - this.#before[sum]));
    const isActive = ACTIVE.some((group) => counts[group] > 0);
    const groups = [...OPEN, ...OTHERS].filter((group) => counts[group] > 0);
    show('overall', [
      ...(files > 0 ? [text('overall_done', { count: files, done: counts.overall_done })] : []),
      ...groups.map((group) => text(group, { count: counts[group] })),
    ]);
    show('amount', isOpen ? [
      text('amount', { sent: bytes(sent), size: bytes(size) }),
      ...(counts.overall_running > 0 ? pace(size - sent, this.#meter.rate) : []),
    ] : []);
    byId('total').hidden = !isOpen;
    byId('total').value = size === 0 ? 0 : sent / size;
    document.title = isActive ? `${percentage(sent, size)} – ${this.#title}` : this.#title;
    const icon = isActive ? ring(Math.floor((100 * sent) / (size || 1))) : this.#logo;
    if (this.#icon.href !== icon) this.#icon.href = icon;
    byId('list-section').hidden = snapshots.length === 0;
  }

  #sum(snapshots) {
    const counts = { overall_done: this.#cleared.files };
    const total = { counts, ...this.#cleared, sent: this.#cleared.size };
    for (const { state, isOffline, isFinished, sent, size, restored } of snapshots) {
      total.files += 1;
      const group = isFinished ? 'overall_done' : isOffline ? 'overall_waiting' : GROUPS[state];
      if (!group) continue;
      counts[group] = (counts[group] ?? 0) + 1;
      total.sent += sent;
      total.size += OTHERS.includes(group) ? sent : size;
      total.moved += sent - restored;
    }
    return total;
  }
}

/** Updates a line only if it changed, since rewriting it moves the cursor of some screen readers. */
function show(id, parts) {
  const line = parts.join(' · ');
  if (byId(id).textContent !== line) byId(id).textContent = line;
}

/** An icon with a ring that fills. */
function ring(filled) {
  const circle = (stroke, length) => `<circle cx="16" cy="16" r="12" stroke="${stroke}" pathLength="100" stroke-dasharray="${length} 100"/>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke-width="8" transform="rotate(-90 16 16)">${
    circle('#a9bcba', 100)}${circle('#0d9488', filled)}</g></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
