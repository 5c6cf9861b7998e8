// A small client of the tus 1.0.0 resumable upload protocol (https://tus.io/protocols).
//
// The server's offset is authoritative: after any error the client sends HEAD and resumes at that
// offset.

import { ConnectionError, RejectedError, request } from './request.js';

const TUS = { 'Tus-Resumable': '1.0.0' };

/** Delays between attempts (exponential backoff), in milliseconds; the last one repeats. Jitter is ±30 %. */
const BACKOFF = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000];

/** Maximum delay, also for `Retry-After`. */
const MAX_BACKOFF = 5 * 60_000;

/** Maximum number of consecutive unexpected responses without progress. */
const MAX_UNEXPECTED = 3;

/**
 * Maximum size of a PATCH body (chunk size), in bytes. Landfall needs no limit; each 413 of a proxy
 * selects the next smaller one. The last is below nginx's default of 1 MiB.
 */
const BODY_SIZES = [Infinity, 64 * 2 ** 20, 8 * 2 ** 20, 900_000];

/** Attempts to terminate an upload. */
const MAX_REMOVE_ATTEMPTS = 4;

/** The upload cannot continue without the user; `message` is the reason. */
export class UploadError extends Error {
  constructor(message) {
    super(message);
    this.name = 'UploadError';
  }
}

/**
 * The upload of one file.
 *
 * States: `idle` → `creating` | `checking` → `uploading` → `done`; in between `waiting` (for the
 * next attempt), and `paused`, `failed`, `removing`, `removed`.
 */
export class TusUpload {
  #stop = null; // null | 'pause' | 'remove'
  #abort = new AbortController();
  #isDisconnecting = false;
  #wake = () => {};
  #running = null;
  #attempts = 0;
  #unexpected = 0;
  #bodySize = 0;

  /**
   * @param {object} options
   * @param {string} options.endpoint the absolute creation URL
   * @param {File} options.file
   * @param {Record<string, string>} options.metadata
   * @param {string | null} options.url the upload to resume, if any
   * @param {(upload: TusUpload) => void} options.onChange called on every change of state, url or offset
   */
  constructor({ endpoint, file, metadata, url = null, onChange }) {
    this.endpoint = endpoint;
    this.file = file;
    this.metadata = metadata;
    this.url = url;
    this.onChange = onChange;
    this.state = 'idle';
    /** Bytes confirmed by the server. */
    this.offset = 0;
    /** Bytes handed to the network; ahead of `offset` while a request runs. */
    this.sent = 0;
    /** Why the upload waits or failed, for the user. */
    this.message = '';
    /** Whether it failed because the browser can no longer read the file. */
    this.fileLost = false;
    /** Time of the next attempt (as `Date.now()`), while waiting. */
    this.retryAt = 0;
  }

  /** Runs until the upload is done, failed, paused or removed; never throws. */
  run() {
    if (this.#stop === 'remove') return Promise.resolve();
    this.#stop = null;
    this.#abort = new AbortController();
    this.#running ??= this.#work().finally(() => { this.#running = null; });
    return this.#running;
  }

  /** Pauses; `run` resumes at the stored offset. */
  pause() {
    this.#halt('pause');
    if (this.state !== 'done') this.#set('paused');
  }

  /** Aborts the connection while sending, as a network failure would. */
  disconnect() {
    this.#isDisconnecting = true;
    this.#abort.abort();
  }

  /** Starts the next attempt now. */
  retryNow() {
    this.#wake();
  }

  /** Stops and terminates the upload on the server. Resolves to its success. */
  async remove() {
    this.#halt('remove');
    this.#set('removing');
    await this.#running;
    try {
      // A creation in progress may have set `url` only now.
      if (this.url !== null) await removeUpload(this.url);
    } catch (error) {
      // The user may also resume it.
      this.#stop = null;
      this.#set('failed', error.message);
      return false;
    }
    this.#set('removed');
    return true;
  }

  async #work() {
    const retry = () => this.#wake();
    window.addEventListener('online', retry);
    document.addEventListener('visibilitychange', retry);
    this.#attempts = this.#unexpected = 0;
    try {
      while (!this.#stop) {
        if (this.#abort.signal.aborted) this.#abort = new AbortController();
        this.#isDisconnecting = false;
        try {
          await this.#attempt();
          return;
        } catch (error) {
          if (!this.#stop) await this.#recover(error);
        }
      }
    } catch (error) {
      this.#set('failed', error instanceof UploadError ? error.message : `Unexpected error: ${error.message}`);
    } finally {
      window.removeEventListener('online', retry);
      document.removeEventListener('visibilitychange', retry);
    }
  }

  async #attempt() {
    if (this.url !== null) await this.#inspect();
    if (this.url === null) await this.#create();
    while (this.offset < this.file.size && !this.#stop) await this.#append();
    if (!this.#stop) this.#set('done');
  }

  /** Never aborted: without its response, the created upload would be orphaned. */
  async #create() {
    this.#set('creating');
    const response = await request('POST', this.endpoint, {
      headers: {
        ...TUS,
        'Upload-Length': String(this.file.size),
        'Upload-Metadata': encodeMetadata(this.metadata),
      },
    });
    const location = response.getResponseHeader('Location');
    if (!location) throw new UploadError('The server created the upload without a Location.');
    this.url = adoptLocation(location, this.endpoint);
    this.offset = this.sent = 0;
    this.onChange(this);
  }

  async #inspect() {
    this.#set('checking');
    const { offset, length } = await inspectUpload(this.url, this.#abort.signal);
    if (length === this.file.size && offset <= length) this.#confirm(offset);
    else this.#restart();
  }

  async #append() {
    this.#set('uploading');
    const end = Math.min(this.file.size, this.offset + BODY_SIZES[this.#bodySize]);
    const response = await request('PATCH', this.url, {
      headers: {
        ...TUS,
        'Upload-Offset': String(this.offset),
        'Content-Type': 'application/offset+octet-stream',
      },
      body: this.file.slice(this.offset, end),
      signal: this.#abort.signal,
      onSent: (bytes) => { this.sent = this.offset + bytes; },
    });
    const offset = readNumber(response, 'Upload-Offset');
    if (offset === null || offset <= this.offset || offset > end) throw new RejectedError(response.status, '', null);
    this.#confirm(offset);
  }

  #confirm(offset) {
    if (offset > this.offset) this.#attempts = this.#unexpected = 0;
    this.offset = this.sent = offset;
    this.onChange(this);
  }

  /** Handles an error: resolves when the next attempt is due, or throws `UploadError`. */
  async #recover(error) {
    if (error instanceof ConnectionError) {
      if (!this.#isDisconnecting) await this.#checkReadable();
      await this.#wait(this.#isDisconnecting ? 'Disconnected.' : 'Connection lost.');
    } else if (error instanceof RejectedError) {
      await this.#recoverFromRejection(error);
    } else {
      throw error;
    }
  }

  async #recoverFromRejection(rejected) {
    const { status, sentence, retryAfter } = rejected;
    const sending = this.state === 'uploading';
    if ((status === 404 || status === 410) && this.url !== null) {
      this.#countUnexpected(rejected);
      this.#restart();
    } else if (status === 409) {
      this.#countUnexpected(rejected);
    } else if (status === 423) {
      await this.#wait('The upload is locked by another request.', retryAfter);
    } else if (status === 413 && sending && this.#bodySize < BODY_SIZES.length - 1) {
      this.#bodySize += 1;
    } else if (status === 413) {
      throw new UploadError(sentence || 'The file is larger than the server accepts.');
    } else if (status === 400 && sending) {
      // The response of some servers when another request takes over the upload.
      this.#countUnexpected(rejected);
      await this.#wait('The server stopped the transfer.', retryAfter);
    } else if (status < 400) {
      this.#countUnexpected(rejected);
      await this.#wait('The server sent an unexpected response.');
    } else if (status === 507) {
      await this.#wait('The server is out of storage.', retryAfter ?? BACKOFF.at(-1));
    } else if (status === 429) {
      await this.#wait('The server is busy.', retryAfter);
    } else if (status === 408 || status >= 500) {
      await this.#wait(`Server error (${status}).`, retryAfter);
    } else if (status === 401 || status === 403) {
      throw new UploadError(`The server does not allow this${sentence ? `: ${sentence}` : '.'}`);
    } else {
      throw new UploadError(`The server rejected the upload (${status})${sentence ? `: ${sentence}` : '.'}`);
    }
  }

  #countUnexpected(rejected) {
    this.#unexpected += 1;
    if (this.#unexpected > MAX_UNEXPECTED) {
      throw new UploadError(`The server rejected several attempts (${rejected.status}). ${rejected.sentence}`.trim());
    }
  }

  #restart() {
    this.url = null;
    this.offset = this.sent = 0;
    this.onChange(this);
  }

  /** Detects a changed or deleted file, which the browser reports as a lost connection. */
  async #checkReadable() {
    if (this.file.size === 0) return;
    const at = Math.min(this.offset, this.file.size - 1);
    try {
      await this.file.slice(at, at + 1).arrayBuffer();
    } catch {
      this.fileLost = true;
      throw new UploadError('The file can no longer be read. It was changed, moved or deleted.');
    }
  }

  #wait(message, retryAfter = null) {
    const delay = BACKOFF[Math.min(this.#attempts, BACKOFF.length - 1)];
    this.#attempts += 1;
    const wait = Math.min(MAX_BACKOFF, Math.max(retryAfter ?? 0, delay * (0.7 + Math.random() * 0.6)));
    this.retryAt = Date.now() + wait;
    this.#set('waiting', message);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => { clearTimeout(timer); resolve(); };
    });
  }

  #halt(reason) {
    this.#stop = reason;
    this.#abort.abort();
    this.#wake();
  }

  #set(state, message = '') {
    // Keep the state that the user requested; ignore late reports of the last request.
    if (this.#stop === 'pause' && state !== 'paused') return;
    if (this.#stop === 'remove' && !['removing', 'removed', 'failed'].includes(state)) return;
    this.state = state;
    this.message = message;
    this.onChange(this);
  }
}

/**
 * Reads the offset and length of an upload (HEAD).
 *
 * @param {string} url
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ offset: number, length: number | null }>} in bytes; length is null while deferred
 * @throws {ConnectionError | RejectedError}
 */
export async function inspectUpload(url, signal) {
  const response = await request('HEAD', url, { headers: TUS, signal });
  const offset = readNumber(response, 'Upload-Offset');
  if (offset === null) throw new RejectedError(response.status, '', null);
  return { offset, length: readNumber(response, 'Upload-Length') };
}

/**
 * Terminates an upload (DELETE); a missing one counts as removed.
 *
 * @param {string} url
 * @throws {UploadError} when the server rejects it or is unreachable
 */
export async function removeUpload(url) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await request('DELETE', url, { headers: TUS });
      return;
    } catch (error) {
      if (isGone(error)) return;
      const isTransient = error instanceof ConnectionError || [408, 409, 423, 429].includes(error.status) || error.status >= 500;
      if (!isTransient) throw new UploadError(`The server did not remove the upload (${error.message}).`);
      if (attempt === MAX_REMOVE_ATTEMPTS) throw new UploadError('The server could not be reached to remove the upload.');
      await new Promise((resolve) => { setTimeout(resolve, BACKOFF[attempt - 1]); });
    }
  }
}

/** Returns whether an error means that the upload does not exist. */
export function isGone(error) {
  return error instanceof RejectedError && (error.status === 404 || error.status === 410);
}

/**
 * Returns the URL of a new upload as this page can reach it.
 *
 * Behind a proxy the server may have another host, scheme or path than the page. Since the endpoint
 * is known to work, the rest of the location is appended to it: the endpoint `https://a/x/files/` and the location `http://b/files/1` give
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
    // Every path starts with a slash, so a lone one is no match.
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

function readNumber(response, header) {
  const value = response.getResponseHeader(header);
  return value !== null && /^\d{1,16}$/.test(value) ? Number(value) : null;
}
