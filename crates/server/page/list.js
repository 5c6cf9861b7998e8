// The list of uploads: of a long one, only the rows near the visible part are in the document.

import { Row } from './view.js';

/** Maximum length of a list with all rows in the document. */
const MAX_ALL = 50;

/** Height above and below the visible part for which rows are kept, in pixels. */
const MARGIN = 600;

/** Space between rows, in pixels. */
const GAP = 10;

/** Heights of rows that are not in the document, in pixels. */
const ESTIMATE = { compact: 70, other: 160 };
const COMPACT = ['done', 'queued', 'rejected'];

/**
 * @typedef {object} Entry
 * @property {import('./item.js').Item} item
 * @property {Row | null} row while it is in the document
 * @property {number} height measured or estimated, with the gap
 * @property {number} top as last laid out
 */

export class List {
  #element;
  #createRow;
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Map<import('./item.js').Item, Entry>} */
  #byItem = new Map();
  #frame = 0;
  #width = 0;

  /**
   * @param {HTMLElement} element
   * @param {(item: import('./item.js').Item) => Row} createRow
   */
  constructor(element, createRow) {
    this.#element = element;
    this.#createRow = createRow;
    document.addEventListener('scroll', () => this.#schedule(), { passive: true });
    window.addEventListener('resize', () => this.#schedule());
    new ResizeObserver(() => this.#schedule()).observe(element);
  }

  get items() {
    return this.#entries.map(({ item }) => item);
  }

  add(item) {
    const last = this.#entries.at(-1);
    const entry = { item, row: null, height: estimate(item), top: last ? last.top + last.height : 0 };
    this.#entries.push(entry);
    this.#byItem.set(item, entry);
    this.#schedule();
  }

  /** Removes an item; the focus in its row moves to a neighbor. Returns false if there is none. */
  remove(item) {
    const entry = this.#byItem.get(item);
    const index = this.#entries.indexOf(entry);
    const isFocused = this.#isFocused(entry);
    this.#entries.splice(index, 1);
    this.#byItem.delete(item);
    entry.row?.element.remove();
    this.#schedule();
    if (!isFocused) return true;
    const neighbor = this.#entries[index] ?? this.#entries[index - 1];
    if (!neighbor) return false;
    this.#mount(neighbor);
    neighbor.row.focus();
    return true;
  }

  /** Shows the state of an item. */
  update(item, isNewState = false) {
    const entry = this.#byItem.get(item);
    if (entry.row) entry.row.update(item.snapshot());
    else if (isNewState) entry.height = estimate(item);
    else return;
    this.#schedule();
  }

  has(item) {
    return this.#byItem.has(item);
  }

  #schedule() {
    if (this.#frame === 0) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        this.#layOut();
      });
    }
  }

  /** Puts the rows near the visible part into the document, and all rows at their places. */
  #layOut() {
    const { top: start, width } = this.#element.getBoundingClientRect();
    if (width === 0) return;
    // Visible rows must not move when rows above them change their height.
    const anchor = start < 0 ? this.#entries.find(({ top, height }) => start + top + height > 0) : undefined;
    const before = anchor?.top;
    if (width !== this.#width) {
      this.#width = width;
      for (const entry of this.#entries) entry.height = estimate(entry.item);
    }
    this.#place();
    const isShort = this.#entries.length <= MAX_ALL;
    const isNear = ({ top, height }) => start + top + height > -MARGIN && start + top < innerHeight + MARGIN;
    for (const entry of this.#entries) {
      if (isShort || isNear(entry) || this.#isFocused(entry)) this.#mount(entry);
      else this.#unmount(entry);
    }
    for (const [index, { row }] of this.#entries.entries()) row?.setPosition(index + 1, this.#entries.length);

    const mounted = this.#entries.filter(({ row }) => row);
    for (const entry of mounted) entry.height = entry.row.element.offsetHeight + GAP;
    this.#element.style.height = `${this.#place()}px`;
    for (const { row, top } of mounted) row.element.style.transform = `translateY(${top}px)`;
    if (anchor && anchor.top !== before) scrollBy(0, anchor.top - before);
    // With their real heights, more rows may fit in.
    else if (this.#entries.some((entry) => !entry.row && isNear(entry))) this.#schedule();
  }

  /** Computes the places of all rows; returns the height of the list. */
  #place() {
    let top = 0;
    for (const entry of this.#entries) {
      entry.top = top;
      top += entry.height;
    }
    return Math.max(0, top - GAP);
  }

  #mount(entry) {
    if (entry.row) return;
    entry.row = this.#createRow(entry.item);
    entry.row.update(entry.item.snapshot());
    const index = this.#entries.indexOf(entry);
    const next = this.#entries.slice(index + 1).find(({ row }) => row);
    this.#element.insertBefore(entry.row.element, next?.row.element ?? null);
  }

  #unmount(entry) {
    entry.row?.element.remove();
    entry.row = null;
  }

  #isFocused({ row }) {
    return row !== null && row.element.contains(document.activeElement);
  }
}

function estimate({ state }) {
  return (COMPACT.includes(state) ? ESTIMATE.compact : ESTIMATE.other) + GAP;
}
