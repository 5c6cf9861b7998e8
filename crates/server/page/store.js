// Persists uploads across reloads: a record of each upload in localStorage, and its file or file
// handle in IndexedDB; of each uploaded file, the hash of its identity, to recognize it. Each upload link has its own
// records. Without browser storage, everything works until the page is closed.

/** Maximum size of a file that is stored as a copy, in bytes; larger ones need a handle. */
const MAX_COPY = 64 * 2 ** 20;

/** Maximum total size of the copies, in bytes. */
const MAX_COPIES = 512 * 2 ** 20;

/** Maximum number of finished uploads, and of rejected ones, that a later visit lists. */
export const MAX_FINISHED = 200;

/**
 * Maximum number of uploaded files that are recognized, of all links; the oldest are forgotten when more are added. Each takes
 * some 50 of the five million characters that browsers store.
 */
const MAX_RECOGNIZED = 10_000;

/** Time after which the records of other links are removed, in milliseconds. */
const MAX_AGE = 90 * 86_400_000;

const DATABASE = 'landfall';
const SOURCES = 'sources';
const RECORDS = 'landfall';
const UPLOADED = `${RECORDS}-uploaded`;

/**
 * @typedef {object} Record
 * @property {string} id
 * @property {string} name
 * @property {string} path the folders and the name, as in `holiday/a.jpg`; empty if the file has no folder
 * @property {string} type media type from the browser; may be empty
 * @property {number} size bytes
 * @property {number} modified last change of the file, milliseconds since 1970
 * @property {string | null} url URL of the upload, once created
 * @property {'unfinished' | 'paused' | 'failed' | 'rejected' | 'finished'} state
 * @property {string} [reason] why it failed or was rejected
 * @property {number} added milliseconds since 1970
 * @property {boolean} copied whether a copy of the file is stored
 */

/**
 * @typedef {object} Source a file or its handle
 * @property {File} [file]
 * @property {FileSystemFileHandle} [handle]
 * @property {string} [path] see `Record`
 */

/** Returns whether there is a record, and its upload may continue. @param {Record | null} record */
export function isOpen(record) {
  return record !== null && !['finished', 'rejected'].includes(record.state);
}

/** Returns whether a file may be that of a record, by name, size and date. */
export function isSameFile(record, file) {
  return record.name === file.name && record.size === file.size && record.modified === file.lastModified;
}

/** Returns a key that files share only if they have the same path, name, size and date. */
export function identity({ path, name, size, modified }) {
  return JSON.stringify([path, name, size, modified]);
}

/** Returns a short hash: FNV-1a, with two multipliers. */
function hashOf(content) {
  let [high, low] = [0x811c9dc5, 0x811c9dc5];
  for (const byte of new TextEncoder().encode(content)) {
    high = Math.imul(high ^ byte, 0x01000193);
    low = Math.imul(low ^ byte, 0x85ebca6b);
  }
  return [high, low].map((half) => (half >>> 0).toString(36)).join('.');
}

let lastAdded = 0;

/** Creates the record of a file. */
export function createRecord({ file, path = '' }) {
  return {
    id: Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join(''),
    name: file.name,
    path,
    type: file.type,
    size: file.size,
    modified: file.lastModified,
    url: null,
    state: 'unfinished',
    // Files that are added together keep their order.
    added: lastAdded = Math.max(Date.now(), lastAdded + 0.001),
    copied: false,
  };
}

export class Store {
  #prefix;
  #uploadedPrefix;
  #unsaved = new Map();
  /** Times of uploads that could not be saved, by the hashes of the files. */
  #unsavedUploads = new Map();
  #database = null;
  /** Bytes of all copies, at least. */
  #copied = 0;
  /** The last transaction: copies are stored one after the other, which keeps the page responsive. */
  #lastCopy = Promise.resolve();

  /**
   * @param {string} endpoint other endpoints have separate records
   * @param {string} secret of the upload link: files that were added for one must not go to another, nor be shown by it
   */
  constructor(endpoint, secret = '') {
    const scope = `${secret && `-${hashOf(secret)}`} ${new URL(endpoint).pathname} `;
    this.#prefix = `${RECORDS}${scope}`;
    this.#uploadedPrefix = `${UPLOADED}${scope}`;
  }

  /** Returns all records, oldest first; removes those beyond the limits. */
  all() {
    this.#forgetOldest();
    const records = [...this.#unsaved.values()];
    const others = [];
    for (const key of storedKeys()) {
      const record = key.startsWith(RECORDS) && !key.startsWith(UPLOADED) ? parse(localStorage.getItem(key)) : null;
      if (!record || this.#unsaved.has(record.id)) continue;
      if (key.startsWith(this.#prefix)) records.push(record);
      // Its file is pruned by the next visit.
      else if (record.added < Date.now() - MAX_AGE) localStorage.removeItem(key);
      else others.push(record);
    }
    records.sort((a, b) => a.added - b.added);
    const excess = new Set(['finished', 'rejected'].flatMap((state) => (
      records.filter((record) => record.state === state).slice(0, -MAX_FINISHED)
    )));
    for (const record of excess) this.remove(record);
    this.#copied = [...records, ...others].reduce((sum, { copied, size }) => sum + (copied ? size : 0), 0);
    return records.filter((record) => !excess.has(record));
  }

  /** Stores that a file was uploaded. */
  remember(record) {
    const hash = hashOf(identity(record));
    try {
      localStorage.setItem(this.#uploadedPrefix + hash, Date.now());
    } catch {
      this.#unsavedUploads.set(hash, Date.now());
    }
  }

  /** Returns when a file was uploaded, in milliseconds since 1970; infinity if it was not. */
  uploadedAt(record) {
    const hash = hashOf(identity(record));
    try {
      return Number(localStorage.getItem(this.#uploadedPrefix + hash) ?? this.#unsavedUploads.get(hash) ?? Infinity);
    } catch {
      return this.#unsavedUploads.get(hash) ?? Infinity;
    }
  }

  /** Forgets an uploaded file, which the server no longer has. */
  forget(record) {
    const hash = hashOf(identity(record));
    this.#unsavedUploads.delete(hash);
    try {
      localStorage.removeItem(this.#uploadedPrefix + hash);
    } catch { /* storage is unavailable */ }
  }

  #forgetOldest() {
    const keys = storedKeys().filter((key) => key.startsWith(UPLOADED));
    if (keys.length <= MAX_RECOGNIZED) return;
    const times = new Map(keys.map((key) => [key, Number(localStorage.getItem(key))]));
    for (const key of keys.sort((a, b) => times.get(b) - times.get(a)).slice(MAX_RECOGNIZED)) localStorage.removeItem(key);
  }

  /** Returns the record as last saved by any tab. */
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

  /** Removes a record and its file. */
  remove(record) {
    this.#unsaved.delete(record.id);
    try {
      localStorage.removeItem(this.#prefix + record.id);
    } catch { /* storage is unavailable */ }
    return this.removeSource(record);
  }

  /**
   * Stores the handle of a file, or a copy of a small file.
   *
   * @param {Record} record already saved
   * @param {Source} source
   * @returns {Promise<boolean>} whether a copy is stored
   */
  saveSource(record, { file, handle }) {
    const saved = this.#lastCopy.then(() => this.#saveSource(record, file, handle));
    this.#lastCopy = saved.catch(() => {});
    return saved;
  }

  async #saveSource(record, file, handle) {
    const isNeeded = () => isOpen(this.get(record.id));
    const copied = !handle && file.size <= Math.min(MAX_COPY, MAX_COPIES - this.#copied);
    if (!handle && !copied || !isNeeded()) return false;
    if (copied) this.#copied += file.size;
    const stored = await this.#sources('readwrite', (sources) => (
      sources.put(handle ? { handle } : { file }, this.#prefix + record.id)
    ));
    // The upload may have been finished or removed meanwhile.
    if (isNeeded()) return copied && stored !== undefined;
    await this.removeSource(record);
    return false;
  }

  /** @returns {Promise<Source | null>} */
  async source(record) {
    return (await this.#sources('readonly', (sources) => sources.get(this.#prefix + record.id))) ?? null;
  }

  async removeSource(record) {
    await this.#sources('readwrite', (sources) => sources.delete(this.#prefix + record.id));
  }

  /** Removes sources without a record, which a browser crash can leave. */
  async prune() {
    const keys = (await this.#sources('readonly', (sources) => sources.getAllKeys())) ?? [];
    const known = new Set([...storedKeys(), ...[...this.#unsaved.keys()].map((id) => this.#prefix + id)]);
    for (const key of keys.filter((each) => !known.has(each))) {
      await this.#sources('readwrite', (sources) => sources.delete(key));
    }
  }

  /** Runs a transaction; resolves with its result, or undefined on failure. */
  async #sources(mode, run) {
    try {
      this.#database ??= open();
      const transaction = (await this.#database).transaction(SOURCES, mode);
      const result = run(transaction.objectStore(SOURCES));
      return await new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve(result.result);
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
