// What the page remembers over a reload: a small record of each upload in localStorage, and in
// IndexedDB the way back to the file's bytes. All of it is a convenience: where the browser
// refuses storage, everything still works until the page is closed.

/** A file up to this size is kept as a copy, in bytes; a larger one by its handle or not at all. */
const MAX_COPY = 64 * 2 ** 20;

/** Most bytes of copies kept at a time. */
const MAX_COPIES = 512 * 2 ** 20;

/** Finished uploads that stay in the list. */
const MAX_FINISHED = 20;

const DATABASE = 'landfall';
const SOURCES = 'sources';

/**
 * @typedef {object} Record
 * @property {string} id
 * @property {string} name
 * @property {string} type media type as the browser tells it; may be empty
 * @property {number} size bytes
 * @property {number} modified last change of the file, milliseconds since 1970
 * @property {string | null} url where the upload lives on the server, once it was created
 * @property {'unfinished' | 'paused' | 'finished'} state
 * @property {number} added milliseconds since 1970
 * @property {boolean} copied whether a copy of the bytes is kept
 */

/**
 * @typedef {object} Source the way to a file's bytes
 * @property {File} [file]
 * @property {FileSystemFileHandle} [handle]
 */

/** Whether a file is, as far as one can tell without reading it, the one a record speaks of. */
export function isSameFile(record, file) {
  return record.name === file.name && record.size === file.size && record.modified === file.lastModified;
}

/** A new record of a file that is to be uploaded. */
export function recordOf(file) {
  return {
    id: Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join(''),
    name: file.name,
    type: file.type,
    size: file.size,
    modified: file.lastModified,
    url: null,
    state: 'unfinished',
    added: Date.now(),
    copied: false,
  };
}

export class Store {
  #prefix;
  #unsaved = new Map();
  #database = null;

  /** @param {string} endpoint uploads to other endpoints are not ours */
  constructor(endpoint) {
    this.#prefix = `landfall ${new URL(endpoint).pathname} `;
  }

  /** All records, oldest first; finished ones beyond the limit are dropped. */
  all() {
    const records = [...this.#unsaved.values()];
    for (const key of storedKeys()) {
      const record = key.startsWith(this.#prefix) ? parse(localStorage.getItem(key)) : null;
      if (record && !this.#unsaved.has(record.id)) records.push(record);
    }
    records.sort((a, b) => a.added - b.added);
    const finished = records.filter((record) => record.state === 'finished');
    const excess = new Set(finished.slice(0, Math.max(0, finished.length - MAX_FINISHED)));
    for (const record of excess) this.forget(record);
    return records.filter((record) => !excess.has(record));
  }

  /** The record as last saved, by this or another tab. */
  get(id) {
    if (this.#unsaved.has(id)) return this.#unsaved.get(id);
    try {
      return parse(localStorage.getItem(this.#prefix + id));
    } catch {
      return null;
    }
  }

  /** @param {Record} record */
  save(record) {
    try {
      localStorage.setItem(this.#prefix + record.id, JSON.stringify(record));
      this.#unsaved.delete(record.id);
    } catch {
      this.#unsaved.set(record.id, record);
    }
  }

  /** Drops a record and what was kept of its file. */
  forget(record) {
    this.#unsaved.delete(record.id);
    try {
      localStorage.removeItem(this.#prefix + record.id);
    } catch { /* nothing was kept there */ }
    return this.forgetSource(record);
  }

  /**
   * Keeps the way to a file's bytes: its handle, or a copy of a file that is small enough.
   *
   * @param {Record} record already saved
   * @param {Source} source
   * @returns {Promise<boolean>} whether a copy is kept now
   */
  async keepSource(record, { file, handle }) {
    const room = MAX_COPIES - this.all().reduce((sum, { copied, size }) => sum + (copied ? size : 0), 0);
    const copied = !handle && file.size <= Math.min(MAX_COPY, room);
    if (!handle && !copied) return false;
    const kept = await this.#sources('readwrite', (sources) => (
      sources.put(handle ? { handle } : { file }, this.#prefix + record.id)
    ));
    // Meanwhile the upload may have been finished or removed.
    const state = this.get(record.id)?.state ?? 'finished';
    if (state === 'finished') await this.forgetSource(record);
    return copied && kept !== undefined && state !== 'finished';
  }

  /** @returns {Promise<Source | null>} */
  async source(record) {
    return (await this.#sources('readonly', (sources) => sources.get(this.#prefix + record.id))) ?? null;
  }

  async forgetSource(record) {
    await this.#sources('readwrite', (sources) => sources.delete(this.#prefix + record.id));
  }

  /** Drops sources whose record is gone, as a crash of the browser may leave them. */
  async prune() {
    const keys = (await this.#sources('readonly', (sources) => sources.getAllKeys())) ?? [];
    const known = new Set([...storedKeys(), ...[...this.#unsaved.keys()].map((id) => this.#prefix + id)]);
    for (const key of keys.filter((each) => !known.has(each))) {
      await this.#sources('readwrite', (sources) => sources.delete(key));
    }
  }

  /** One transaction; resolves with its result, or undefined when the browser refuses. */
  async #sources(mode, ask) {
    try {
      this.#database ??= open();
      const transaction = (await this.#database).transaction(SOURCES, mode);
      const asked = ask(transaction.objectStore(SOURCES));
      return await new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve(asked.result);
        transaction.onerror = transaction.onabort = () => reject(transaction.error);
      });
    } catch {
      return undefined;
    }
  }
}

function open() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(SOURCES);
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

function storedKeys() {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}

function parse(text) {
  try {
    const record = JSON.parse(text);
    return typeof record?.id === 'string' ? record : null;
  } catch {
    return null;
  }
}
