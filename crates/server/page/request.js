// An HTTP request over XMLHttpRequest, which, unlike fetch, reports upload progress.

/** Timeouts without progress, in milliseconds. */
const TIMEOUT = { response: 60_000, body: 60_000, bodyResponse: 120_000 };

/** Maximum length of a displayed error text. */
const MAX_MESSAGE_LEN = 300;

/** The request got no response: the network failed, timed out, or the request was aborted. */
export class ConnectionError extends Error {
  /** @param {"network" | "timeout" | "aborted"} cause */
  constructor(cause) {
    super(cause);
    this.name = 'ConnectionError';
    this.reason = cause;
  }
}

/** The server responded with an error. */
export class RejectedError extends Error {
  /**
   * @param {number} status
   * @param {string} sentence the text of the response, truncated; may be empty
   * @param {number | null} retryAfter `Retry-After` in milliseconds, if present
   */
  constructor(status, sentence, retryAfter) {
    super(sentence || `HTTP ${status}`);
    this.name = 'RejectedError';
    this.status = status;
    this.sentence = sentence;
    this.retryAfter = retryAfter;
  }
}

/**
 * Sends a request; resolves with the response if its status is 2xx.
 *
 * @param {string} method
 * @param {string} url
 * @param {object} [options]
 * @param {Record<string, string>} [options.headers]
 * @param {Blob | null} [options.body]
 * @param {AbortSignal} [options.signal] closes the connection when aborted
 * @param {(sent: number) => void} [options.onSent] bytes of the body handed to the network so far
 * @returns {Promise<XMLHttpRequest>}
 * @throws {ConnectionError | RejectedError}
 */
export function request(method, url, { headers = {}, body = null, signal, onSent } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(new ConnectionError('aborted'));
      return;
    }
    const xhr = new XMLHttpRequest();
    let cause = 'network';
    let timer = 0;
    const restartTimer = (limit) => {
      clearTimeout(timer);
      timer = setTimeout(() => { cause = 'timeout'; xhr.abort(); }, limit);
    };
    const abort = () => { cause = 'aborted'; xhr.abort(); };
    const settle = (finish, value) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      finish(value);
    };

    xhr.open(method, url);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.onload = () => {
      if (xhr.status >= 200 && xhr.status < 300) settle(resolve, xhr);
      else settle(reject, rejection(xhr));
    };
    xhr.onerror = xhr.onabort = () => settle(reject, new ConnectionError(cause));
    if (body) {
      xhr.upload.onprogress = (event) => { restartTimer(TIMEOUT.body); onSent?.(event.loaded); };
      xhr.upload.onload = () => restartTimer(TIMEOUT.bodyResponse);
    }
    signal?.addEventListener('abort', abort);
    restartTimer(body ? TIMEOUT.body : TIMEOUT.response);
    xhr.send(body);
  });
}

function rejection(xhr) {
  const type = xhr.getResponseHeader('Content-Type') ?? '';
  // Do not show the HTML error page of a proxy.
  const text = type.startsWith('text/plain') ? xhr.responseText.trim() : '';
  const sentence = text.length > MAX_MESSAGE_LEN ? `${text.slice(0, MAX_MESSAGE_LEN)}…` : text;
  return new RejectedError(xhr.status, sentence, retryAfter(xhr.getResponseHeader('Retry-After')));
}

function retryAfter(value) {
  if (!value) return null;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : null;
}
