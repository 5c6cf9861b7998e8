// A small client of the tus 1.0.0 resumable upload protocol (https://tus.io/protocols).
//
// The rule that everything follows from: what the server says it has is the truth. After any
// trouble the client asks (HEAD) and goes on from that offset.

import { Disconnected, Refused, request } from './request.js';

const TUS = { 'Tus-Resumable': '1.0.0' };

/** Waits between tries, in milliseconds; the last one repeats. Each is spread by ±30 %. */
const BACKOFF = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000];

/** No wait is longer than this, whatever the server asks for. */
const MAX_WAIT = 5 * 60_000;

/** How often in a row, without progress between, we take a puzzling answer for an accident. */
const MAX_DOUBTFUL = 3;

/**
 * Largest body of one PATCH, in bytes. The first is right for Landfall; a proxy in front that
 * refuses large bodies (413) makes us go down the list. The last is below nginx's default of 1 MiB.
 */
const BODY_SIZES = [Infinity, 64 * 2 ** 20, 8 * 2 ** 20, 900_000];

/** Tries to tell the server that an upload is to be removed. */
const REMOVE_TRIES = 4;

/** The upload can't go on without a person doing something; `message` says what. */
export class Failed extends Error {
  constructor(message) {
    super(message);
    this.name = 'Failed';
  }
}

/**
 * One file on its way to the server.
 *
 * States: `idle` → `creating` | `checking` → `uploading` → `done`; in between `waiting` (for the
 * next try), and `paused`, `failed`, `removing`, `removed`.
 */
export class TusUpload {
  #stop = null; // null | 'pause' | 'remove'
  #abort = new AbortController();
  #cutting = false;
  #wake = () => {};
  #running = null;
  #tries = 0;
  #doubtful = 0;
  #bodySize = 0;

  /**
   * @param {object} options
   * @param {string} options.endpoint absolute URL where uploads are created
   * @param {File} options.file
   * @param {Record<string, string>} options.metadata
   * @param {string | null} options.url the upload to go on with, if there is one
   * @param {(upload: TusUpload) => void} options.onChange called on every change of state, url or offset
   */
  constructor({ endpoint, file, metadata, url = null, onChange }) {
    this.endpoint = endpoint;
    this.file = file;
    this.metadata = metadata;
    this.url = url;
    this.onChange = onChange;
    this.state = 'idle';
    /** Bytes the server has confirmed. */
    this.offset = 0;
    /** Bytes handed to the network; ahead of `offset` while a request runs. */
    this.sent = 0;
    /** Why the upload waits or failed, in words for a person. */
    this.message = '';
    /** Whether it failed because the browser can't read the file any more. */
    this.fileLost = false;
    /** When the next try starts (as `Date.now()`), while waiting. */
    this.retryAt = 0;
  }

  /** Works until the upload is done, failed, paused or removed; never throws. */
  run() {
    if (this.#stop === 'remove') return Promise.resolve();
    this.#stop = null;
    this.#abort = new AbortController();
    this.#running ??= this.#work().finally(() => { this.#running = null; });
    return this.#running;
  }

  /** Stops; what the server has received stays there, and `run` goes on from it. */
  pause() {
    this.#halt('pause');
    if (this.state !== 'done') this.#set('paused');
  }

  /** Drops the connection in the middle of sending, as a bad network would. */
  cut() {
    this.#cutting = true;
    this.#abort.abort();
  }

  /** Ends the wait for the next try. */
  retryNow() {
    this.#wake();
  }

  /** Stops and has the server forget the upload. Resolves to whether it did. */
  async remove() {
    this.#halt('remove');
    this.#set('removing');
    await this.#running;
    try {
      // A creation that was under way may have made `url` known only now.
      if (this.url !== null) await removeUpload(this.url);
    } catch (error) {
      // So that one may also think better of it, and go on.
      this.#stop = null;
      this.#set('failed', error.message);
      return false;
    }
    this.#set('removed');
    return true;
  }

  async #work() {
    const hurry = () => this.#wake();
    window.addEventListener('online', hurry);
    document.addEventListener('visibilitychange', hurry);
    this.#tries = this.#doubtful = 0;
    try {
      while (!this.#stop) {
        if (this.#abort.signal.aborted) this.#abort = new AbortController();
        this.#cutting = false;
        try {
          await this.#attempt();
          return;
        } catch (error) {
          if (!this.#stop) await this.#recover(error);
        }
      }
    } catch (error) {
      this.#set('failed', error instanceof Failed ? error.message : `Unexpected trouble: ${error.message}`);
    } finally {
      window.removeEventListener('online', hurry);
      document.removeEventListener('visibilitychange', hurry);
    }
  }

  async #attempt() {
    if (this.url !== null) await this.#inspect();
    if (this.url === null) await this.#create();
    while (this.offset < this.file.size && !this.#stop) await this.#append();
    if (!this.#stop) this.#set('done');
  }

  /** Never aborted: an answer that we didn't wait for would leave an upload nobody knows of. */
  async #create() {
    this.#set('creating');
    const answer = await request('POST', this.endpoint, {
      headers: {
        ...TUS,
        'Upload-Length': String(this.file.size),
        'Upload-Metadata': encodeMetadata(this.metadata),
      },
    });
    const location = answer.getResponseHeader('Location');
    if (!location) throw new Failed('The server created the upload but did not say where.');
    this.url = adoptLocation(location, this.endpoint);
    this.offset = this.sent = 0;
    this.onChange(this);
  }

  async #inspect() {
    this.#set('checking');
    const { offset, length } = await inspectUpload(this.url, this.#abort.signal);
    if (length === this.file.size && offset <= length) this.#confirm(offset);
    else this.#startAnew();
  }

  async #append() {
    this.#set('uploading');
    const end = Math.min(this.file.size, this.offset + BODY_SIZES[this.#bodySize]);
    const answer = await request('PATCH', this.url, {
      headers: {
        ...TUS,
        'Upload-Offset': String(this.offset),
        'Content-Type': 'application/offset+octet-stream',
      },
      body: this.file.slice(this.offset, end),
      signal: this.#abort.signal,
      onSent: (bytes) => { this.sent = this.offset + bytes; },
    });
    const offset = readNumber(answer, 'Upload-Offset');
    if (offset === null || offset <= this.offset || offset > end) throw new Refused(answer.status, '', null);
    this.#confirm(offset);
  }

  #confirm(offset) {
    if (offset > this.offset) this.#tries = this.#doubtful = 0;
    this.offset = this.sent = offset;
    this.onChange(this);
  }

  /** Decides what an error means: returns when the next try is due, or throws `Failed`. */
  async #recover(error) {
    if (error instanceof Disconnected) {
      if (!this.#cutting) await this.#checkReadable();
      await this.#wait(this.#cutting ? 'Connection cut.' : 'Connection lost.');
    } else if (error instanceof Refused) {
      await this.#recoverFrom(error);
    } else {
      throw error;
    }
  }

  async #recoverFrom(refused) {
    const { status, sentence, retryAfter } = refused;
    const sending = this.state === 'uploading';
    if ((status === 404 || status === 410) && this.url !== null) {
      this.#doubt(refused);
      this.#startAnew();
    } else if (status === 409) {
      this.#doubt(refused);
    } else if (status === 423) {
      await this.#wait('The server is still busy with this file.', retryAfter);
    } else if (status === 413 && sending && this.#bodySize < BODY_SIZES.length - 1) {
      this.#bodySize += 1;
    } else if (status === 413) {
      throw new Failed(sentence || 'The file is larger than the server accepts.');
    } else if (status === 400 && sending) {
      // Some servers answer so when another request took the upload over.
      this.#doubt(refused);
      await this.#wait('The server stopped the transfer.', retryAfter);
    } else if (status < 400) {
      this.#doubt(refused);
      await this.#wait('The server’s answer made no sense.');
    } else if (status === 507) {
      await this.#wait('The server has no room left.', retryAfter ?? BACKOFF.at(-1));
    } else if (status === 429) {
      await this.#wait('The server is busy.', retryAfter);
    } else if (status === 408 || status >= 500) {
      await this.#wait(`The server has trouble (${status}).`, retryAfter);
    } else if (status === 401 || status === 403) {
      throw new Failed(`The server does not allow this${sentence ? `: ${sentence}` : '.'}`);
    } else {
      throw new Failed(`The server refused (${status})${sentence ? `: ${sentence}` : '.'}`);
    }
  }

  #doubt(refused) {
    this.#doubtful += 1;
    if (this.#doubtful > MAX_DOUBTFUL) {
      throw new Failed(`The server refused several times (${refused.status}). ${refused.sentence}`.trim());
    }
  }

  #startAnew() {
    this.url = null;
    this.offset = this.sent = 0;
    this.onChange(this);
  }

  /** A file that changed or went away looks like a lost connection to the browser. */
  async #checkReadable() {
    if (this.file.size === 0) return;
    const at = Math.min(this.offset, this.file.size - 1);
    try {
      await this.file.slice(at, at + 1).arrayBuffer();
    } catch {
      this.fileLost = true;
      throw new Failed('The file can’t be read any more. It was changed, moved or deleted.');
    }
  }

  #wait(message, asked = null) {
    const step = BACKOFF[Math.min(this.#tries, BACKOFF.length - 1)];
    this.#tries += 1;
    const wait = Math.min(MAX_WAIT, Math.max(asked ?? 0, step * (0.7 + Math.random() * 0.6)));
    this.retryAt = Date.now() + wait;
    this.#set('waiting', message);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  #halt(why) {
    this.#stop = why;
    this.#abort.abort();
    this.#wake();
  }

  #set(state, message = '') {
    // The state a person asked for stays, whatever the last request still reports.
    if (this.#stop === 'pause' && state !== 'paused') return;
    if (this.#stop === 'remove' && !['removing', 'removed', 'failed'].includes(state)) return;
    this.state = state;
    this.message = message;
    this.onChange(this);
  }
}

/**
 * Asks how much of an upload the server has.
 *
 * @param {string} url
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ offset: number, length: number | null }>} in bytes; no length if it isn't known yet
 * @throws {Disconnected | Refused}
 */
export async function inspectUpload(url, signal) {
  const answer = await request('HEAD', url, { headers: TUS, signal });
  const offset = readNumber(answer, 'Upload-Offset');
  if (offset === null) throw new Refused(answer.status, '', null);
  return { offset, length: readNumber(answer, 'Upload-Length') };
}

/**
 * Has the server remove an upload; one that is gone already counts as removed.
 *
 * @param {string} url
 * @throws {Failed} when the server refuses or can't be reached
 */
export async function removeUpload(url) {
  for (let tries = 1; ; tries += 1) {
    try {
      await request('DELETE', url, { headers: TUS });
      return;
    } catch (error) {
      if (isGone(error)) return;
      const passing = error instanceof Disconnected || [408, 409, 423, 429].includes(error.status) || error.status >= 500;
      if (!passing) throw new Failed(`The server did not remove the upload (${error.message}).`);
      if (tries === REMOVE_TRIES) throw new Failed('The server could not be told to remove the upload.');
      await new Promise((resolve) => { setTimeout(resolve, BACKOFF[tries - 1]); });
    }
  }
}

/** Whether an error says that the upload does not exist (any more). */
export function isGone(error) {
  return error instanceof Refused && (error.status === 404 || error.status === 410);
}

/**
 * The URL under which this page reaches a new upload.
 *
 * Behind a proxy the server may know itself by another name, scheme or path than the page does.
 * The endpoint has just been reached, so whatever follows it in the server's answer is looked for
 * there: the endpoint `https://a/x/files/` and the location `http://b/files/1` give
 * `https://a/x/files/1`.
 *
 * @param {string} location value of the Location header
 * @param {string} endpoint absolute URL
 * @returns {string} absolute URL
 */
export function adoptLocation(location, endpoint) {
  const base = new URL(endpoint);
  const found = new URL(location, base);
  let suffix = base.pathname.endsWith('/') ? base.pathname : `${base.pathname}/`;
  const root = suffix.slice(0, -1);
  for (;;) {
    if (found.pathname.startsWith(suffix) && found.pathname.length > suffix.length) {
      const rest = found.pathname.slice(suffix.length);
      return new URL(`${root}/${rest}${found.search}`, base).href;
    }
    const next = suffix.indexOf('/', 1);
    // A lone slash begins every path, so it tells nothing.
    if (next < 0 || next === suffix.length - 1) return found.href;
    suffix = suffix.slice(next);
  }
}

/** `Upload-Metadata`: comma-joined pairs of key and base64 of the value's UTF-8. */
export function encodeMetadata(metadata) {
  return Object.entries(metadata)
    .map(([key, value]) => {
      const bytes = new TextEncoder().encode(value);
      return `${key} ${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))}`;
    })
    .join(',');
}

function readNumber(answer, header) {
  const value = answer.getResponseHeader(header);
  return value !== null && /^\d{1,16}$/.test(value) ? Number(value) : null;
}
