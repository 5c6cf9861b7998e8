// Sends a file with tus-js-client, and decides what its errors mean.
//
// The server's offset is authoritative: after any error the next attempt sends HEAD and resumes at that
// offset. tus-js-client makes single attempts: its own retries would create another upload after most
// errors of HEAD, and could not leave the queue in between.

import { ConnectionError, HttpStack, RejectedError, convertError, readNumber } from './http.js';
import { text } from './i18n.js';

const { Upload } = globalThis.tus;

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
const CHUNK_SIZES = [Infinity, 64 * 2 ** 20, 8 * 2 ** 20, 900_000];

/** Timeout of a request for the offset, in milliseconds. */
const INSPECT_TIMEOUT = 60_000;

const httpStack = new HttpStack();

/** The upload cannot continue without the user; `message` is the reason. */
export class UploadError extends Error {
  name = 'UploadError';
}

/**
 * The upload of one file.
 *
 * States: `idle` → `creating` | `checking` → `uploading` → `done`; `waiting` (for the next attempt),
 * `paused` and `failed`.
 */
export class FileUpload {
  /** The run in progress: ends with an error, whether it was stopped, and whether it requests an upload token. */
  #run = { interrupt: () => {}, isStopped: false, isRequesting: false };
  /** A creation whose response is still to come; its request is never aborted, which would orphan the upload. */
  #creation = null;
  #isAbandoned = false;
  #attempts = 0;
  #unexpected = 0;
  #chunkSize = 0;

  /**
   * @param {object} options
   * @param {string} options.endpoint the absolute creation URL
   * @param {File} options.file
   * @param {Record<string, string>} options.metadata
   * @param {string | null} options.url the upload to resume, if any
   * @param {() => Promise<string>} [options.requestToken] requests an upload token, if the page has an upload link
   * @param {(upload: FileUpload) => void} options.onChange called on every change of state, url or offset
   */
  constructor({ endpoint, file, metadata, url = null, requestToken, onChange }) {
    this.endpoint = endpoint;
    this.file = file;
    this.metadata = metadata;
    this.url = url;
    this.requestToken = requestToken;
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
    /** Whether it failed because it was not granted; repeating the request cannot change that. */
    this.isDenied = false;
    /** Whether the last request got no response. */
    this.isOffline = false;
    /** Time of the next attempt (as `Date.now()`), while waiting. */
    this.retryAt = 0;
  }

  /** Forgets earlier failures; called when the user starts the upload. */
  resetRetries() {
    this.#attempts = this.#unexpected = 0;
  }

  /** Runs until the upload is done, failed, interrupted, or waits for the next attempt; never throws. */
  async run() {
    const run = { interrupt: () => {}, isStopped: false, isRequesting: false };
    this.#run = run;
    await this.#creation;
    try {
      let isDue = true;
      while (isDue && !run.isStopped) isDue = await this.#attempt(run);
    } catch (error) {
      if (run.isStopped) return;
      const isKnown = error instanceof UploadError;
      this.isDenied = isKnown && run.isRequesting;
      this.#set('failed', isKnown ? error.message : text('error_unknown', { reason: error.message }));
    }
  }

  /** Ends the run; the next one resumes at the stored offset. */
  pause() {
    this.#stop();
    this.#set('paused');
  }

  /** Whether a creation is in progress, even if the upload is paused. */
  get isCreating() {
    return this.#creation !== null;
  }

  /**
   * Aborts the connection while sending, as a network failure would.
   *
   * @param {'disconnected' | 'offline'} reason the user wants it, or the browser has no network
   */
  disconnect(reason = 'disconnected') {
    if (this.state !== 'creating') this.#run.interrupt(new ConnectionError(reason));
  }

  /** Ends the run for good. Resolves once the URL of the upload is known, if it was ever created. */
  async abandon() {
    this.#isAbandoned = true;
    this.#stop();
    await this.#creation;
  }

  #stop() {
    this.#run.isStopped = true;
    this.#run.interrupt(new Error('stopped'));
  }

  /** Makes one attempt. Resolves to whether the next one is due now. */
  async #attempt(run) {
    try {
      let token;
      if (this.url === null && this.requestToken) {
        this.#set('creating');
        run.isRequesting = true;
        token = await this.requestToken();
        run.isRequesting = false;
        if (run.isStopped) return false;
      }
      await this.#send(run, token);
    } catch (error) {
      return run.isStopped ? false : this.#recover(error, run);
    } finally {
      run.interrupt = () => {};
    }
    this.#set('done');
    return false;
  }

  /** Sends the rest of the file with tus-js-client. A new upload may need a token. */
  #send(run, token) {
    const isNew = this.url === null;
    this.#set(isNew ? 'creating' : 'checking');
    let endCreation = () => {};
    if (isNew) {
      this.#creation = new Promise((resolve) => {
        endCreation = () => { this.#creation = null; resolve(); };
      });
    }
    return new Promise((resolve, reject) => {
      let isInterrupted = false;
      const upload = new Upload(this.file, {
        // Without an endpoint, a failing HEAD is an error and does not create another upload.
        endpoint: isNew ? this.endpoint : null,
        uploadUrl: this.url,
        metadata: this.metadata,
        headers: token ? { 'Upload-Token': token } : {},
        chunkSize: CHUNK_SIZES[this.#chunkSize],
        retryDelays: null,
        storeFingerprintForResuming: false,
        httpStack,
        onAfterResponse: (request, response) => this.#checkResponse(request, response),
        onUploadUrlAvailable: () => {
          if (isNew) this.#confirm(0, upload.url);
          endCreation();
          if (isInterrupted) upload.abort();
          else this.#set('uploading');
        },
        onProgress: (sent) => { if (!isInterrupted) this.sent = sent; },
        onSuccess: resolve,
        onError: (error) => {
          endCreation();
          reject(convertError(error));
        },
      });
      run.interrupt = (error) => {
        isInterrupted = true;
        if (!this.isCreating) upload.abort();
        reject(error);
      };
      upload.start();
    });
  }

  /** Rejects responses that cannot be true, and takes over the offset. */
  #checkResponse(request, response) {
    this.isOffline = false;
    const status = response.getStatus();
    if (status < 200 || status > 299) return;
    const offset = readNumber(response.getHeader('Upload-Offset'));
    switch (request.getMethod()) {
      case 'POST':
        if (!response.getHeader('Location')) throw new RejectedError(status, text('error_no_location'));
        break;
      case 'HEAD': {
        if (offset === null) throw new RejectedError(status);
        const length = readNumber(response.getHeader('Upload-Length'));
        // Another file: start again.
        if (length !== this.file.size || offset > length) throw new RejectedError(404);
        this.#confirm(offset);
        break;
      }
      default: {
        const end = Math.min(this.file.size, this.offset + CHUNK_SIZES[this.#chunkSize]);
        if (offset === null || offset <= this.offset || offset > end) throw new RejectedError(status);
        this.#confirm(offset);
      }
    }
  }

  #confirm(offset, url = this.url) {
    if (offset > this.offset) this.resetRetries();
    this.url = url;
    this.offset = this.sent = offset;
    this.onChange(this);
  }

  /** Handles an error. Resolves to whether the next attempt is due now; throws if there is none. */
  async #recover(error, run) {
    this.isOffline = false;
    if (error instanceof RejectedError) return this.#recoverFromRejection(error);
    if (!(error instanceof ConnectionError)) throw error;
    const isDisconnected = error.message === 'disconnected';
    if (!isDisconnected) await this.#checkReadable();
    if (run.isStopped) return false;
    this.isOffline = !isDisconnected;
    return this.#wait(text(isDisconnected ? 'error_disconnected' : 'error_connection'));
  }

  #recoverFromRejection(rejected) {
    const { status, sentence, retryAfter } = rejected;
    const sending = this.state === 'uploading';
    if ((status === 404 || status === 410) && this.url !== null) {
      this.#countUnexpected(rejected);
      this.#confirm(0, null);
      return true;
    }
    if (status === 409) {
      this.#countUnexpected(rejected);
      return true;
    }
    if (status === 413 && sending && this.#chunkSize < CHUNK_SIZES.length - 1) {
      this.#chunkSize += 1;
      return true;
    }
    if (status === 400 && sending) {
      // The response of some servers when another request takes over the upload.
      this.#countUnexpected(rejected);
      return this.#wait(text('error_stopped'), retryAfter);
    }
    if (status < 400) {
      this.#countUnexpected(rejected);
      return this.#wait(text('error_response'));
    }
    if (status === 413) throw new UploadError(sentence || text('error_too_large'));
    if (status === 423) return this.#wait(text('error_locked'), retryAfter);
    if (status === 429) return this.#wait(text('error_busy'), retryAfter);
    if (status === 507) return this.#wait(text('error_storage'), retryAfter ?? BACKOFF.at(-1));
    if (status === 408 || status >= 500) return this.#wait(text('error_server', { status: String(status) }), retryAfter);
    const key = status === 401 || status === 403 ? 'error_denied' : 'error_rejected';
    const values = { status: String(status), reason: sentence };
    throw new UploadError(sentence ? text(`${key}_reason`, values) : text(key, values));
  }

  #countUnexpected({ status, sentence }) {
    this.#unexpected += 1;
    if (this.#unexpected <= MAX_UNEXPECTED) return;
    throw new UploadError(text('error_repeated', { status: String(status), reason: sentence }).trim());
  }

  /** Detects a changed or deleted file, which the browser reports as a lost connection. */
  async #checkReadable() {
    if (this.file.size === 0) return;
    const at = Math.min(this.offset, this.file.size - 1);
    try {
      await this.file.slice(at, at + 1).arrayBuffer();
    } catch {
      this.fileLost = true;
      throw new UploadError(text('error_file'));
    }
  }

  #wait(message, retryAfter = null) {
    const delay = BACKOFF[Math.min(this.#attempts, BACKOFF.length - 1)];
    this.#attempts += 1;
    const wait = Math.min(MAX_BACKOFF, Math.max(retryAfter ?? 0, delay * (0.7 + Math.random() * 0.6)));
    this.retryAt = Date.now() + wait;
    this.#set('waiting', message);
    return false;
  }

  #set(state, message = '') {
    this.state = state;
    this.message = message;
    if (!this.#isAbandoned) this.onChange(this);
  }
}

/**
 * Reads the offset of an upload (HEAD).
 *
 * @param {string} url
 * @returns {Promise<number | null>} bytes; null if the upload certainly does not exist
 * @throws if the offset could not be read
 */
export async function inspectUpload(url) {
  const response = await fetch(url, {
    method: 'HEAD',
    headers: { 'Tus-Resumable': '1.0.0' },
    signal: AbortSignal.timeout(INSPECT_TIMEOUT),
  });
  if (response.status === 404 || response.status === 410) return null;
  const offset = readNumber(response.headers.get('Upload-Offset'));
  if (!response.ok || offset === null) throw new RejectedError(response.status);
  return offset;
}

/**
 * Terminates an upload (DELETE); a missing one counts as removed.
 *
 * @param {string} url
 * @throws {UploadError} when the server rejects it or is unreachable
 */
export async function removeUpload(url) {
  const isTransient = ({ status }) => status === undefined || [408, 409, 423, 429].includes(status) || status >= 500;
  try {
    await Upload.terminate(url, {
      httpStack,
      retryDelays: BACKOFF.slice(0, 3),
      onShouldRetry: (error) => isTransient(convertError(error)),
    });
  } catch (cause) {
    const error = convertError(cause);
    // tus-js-client takes only 204 for a success.
    if (error.status === 404 || error.status === 410 || (error.status >= 200 && error.status < 300)) return;
    throw new UploadError(isTransient(error) ? text('error_remove_offline') : text('error_remove', { reason: error.message }));
  }
}
