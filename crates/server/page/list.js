// A list of uploads, ordered by their states: of a long one, only the rows near the visible part are in the document.

import { Row, isCompact } from './view.js';

/** Maximum length of a list with all rows in the document. */
const MAX_ALL = 50;

/** Height above and below the visible part for which rows are kept, in pixels. */
const MARGIN = 600;

/** Space between rows, in pixels. */
const GAP = 10;

/** Heights of rows that are not in the document, in pixels. */
const ESTIMATE = { compact: 70, other: 160 };

/** Running uploads come first, then those that failed or need the user. In other states a row stays with its group. */
const RANKS = {
  creating: 0,
  checking: 0,
  uploading: 0,
  waiting: 0,
  failed: 1,
  rejected: 1,
  'needs-file': 1,
  'needs-permission': 1,
  paused: 2,
  'in-other-tab': 2,
  restoring: 3,
  queued: 3,
};

let lastNumber = 0;

/**
 * @typedef {object} Entry
 * @property {import('./item.js').Item} item
 * @property {number} number in the order in which all were added
 * @property {number} rank see `RANKS`, as last laid out
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
  #isSorted = true;
  #isFolded = false;

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

  get size() {
    return this.#entries.length;
  }

  /** Whether the rows are hidden. */
  set isFolded(value) {
    if (value === this.#isFolded) return;
    this.#isFolded = value;
    if (value) for (const entry of this.#entries) this.#unmount(entry);
    this.#hide();
  }

  add(item) {
    this.#insert({ item, number: lastNumber += 1, rank: 0, row: null, height: estimate(item), top: 0 });
  }

  /** Moves an item to another list; the focus goes along. Returns whether it is lost, because that list is folded. */
  moveTo(other, item) {
    const entry = this.#byItem.get(item);
    const focused = this.#isFocused(entry) ? document.activeElement : null;
    this.#extract(entry);
    if (other.#isFolded) other.#unmount(entry);
    other.#insert(entry);
    focused?.focus();
    return focused !== null && other.#isFolded;
  }

  /** Removes an item; the focus in its row moves to a neighbor. Returns false if there is none. */
  remove(item) {
    const entry = this.#byItem.get(item);
    const isFocused = this.#isFocused(entry);
    const index = this.#extract(entry);
    if (!isFocused) return true;
    const neighbor = this.#entries[index] ?? this.#entries[index - 1];
    if (!neighbor) return false;
    this.#mount(neighbor);
    neighbor.row.focus();
    return true;
  }

  #insert(entry) {
    this.#entries.push(entry);
    this.#byItem.set(entry.item, entry);
    this.#isSorted = false;
    if (entry.row) this.#element.append(entry.row.element);
    this.#hide();
    this.#schedule();
  }

  /** Returns the former index. */
  #extract(entry) {
    const index = this.#entries.indexOf(entry);
    this.#entries.splice(index, 1);
    this.#byItem.delete(entry.item);
    entry.row?.element.remove();
    this.#hide();
    this.#schedule();
    return index;
  }

  #hide() {
    this.#element.hidden = this.#isFolded || this.#entries.length === 0;
  }

  /** Shows the state of an item. */
  update(item, isNewState = false) {
    const entry = this.#byItem.get(item);
    if (isNewState) this.#isSorted = false;
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
    const anchor = start < 0 ? this.#entries.find((entry) => start + entry.top + entry.height > 0 && rankOf(entry) === entry.rank) : undefined;
    const before = anchor?.top;
    const scrolled = scrollY;
    if (width !== this.#width) {
      this.#width = width;
      for (const entry of this.#entries) entry.height = estimate(entry.item);
    }
    this.#sort();
    this.#place();
    const isShort = this.#entries.length <= MAX_ALL;
    const isNear = ({ top, height }) => start + top + height > -MARGIN && start + top < innerHeight + MARGIN;
    for (const entry of this.#entries) {
      if (isShort || isNear(entry) || this.#isFocused(entry)) this.#mount(entry);
      else this.#unmount(entry);
    }
    for (const [index, { row }] of this.#entries.entries()) row?.setPosition(index + 1, this.#entries.length);

    const mounted = this.#entries.filter(({ row }) => row);
    this.#order(mounted.map(({ row }) => row.element));
    // All are read before the first one is changed.
    for (const change of mounted.map(({ row }) => row.fit())) change();
    for (const entry of mounted) entry.height = entry.row.element.offsetHeight + GAP;
    this.#element.style.height = `${this.#place()}px`;
    for (const { row, top } of mounted) row.element.style.transform = `translateY(${top}px)`;
    // Not by a difference: at the end of the page the browser has already scrolled, because the list became shorter.
    if (anchor && anchor.top !== before) scrollTo(scrollX, scrolled + anchor.top - before);
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

  #sort() {
    if (this.#isSorted) return;
    this.#isSorted = true;
    for (const entry of this.#entries) entry.rank = rankOf(entry);
    this.#entries.sort((a, b) => a.rank - b.rank || a.number - b.number);
  }

  /** Brings the elements of the document in order without moving the one with the focus, which would lose it. */
  #order(elements) {
    let next = this.#element.firstElementChild;
    for (const element of elements) {
      if (element !== next && element.contains(document.activeElement)) {
        while (next !== element) {
          const later = next;
          next = next.nextElementSibling;
          this.#element.append(later);
        }
      }
      if (element === next) next = next.nextElementSibling;
      else this.#element.insertBefore(element, next);
    }
  }

  #mount(entry) {
    if (entry.row) return;
    entry.row = this.#createRow(entry.item);
    entry.row.update(entry.item.snapshot());
    this.#element.append(entry.row.element);
  }

  #unmount(entry) {
    entry.row?.element.remove();
    entry.row = null;
  }

  #isFocused({ row }) {
    return row !== null && row.element.contains(document.activeElement);
  }
}

function rankOf({ item, rank }) {
  return RANKS[item.state] ?? rank;
}

function estimate(item) {
  return (isCompact(item.snapshot()) ? ESTIMATE.compact : ESTIMATE.other) + GAP;
}
