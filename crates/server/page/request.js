// One HTTP request over XMLHttpRequest, which, unlike fetch, tells how much of a body has left.

/** How long a request may stand still before it counts as lost, in milliseconds. */
const QUIET = { answer: 60_000, body: 60_000, bodyAnswer: 120_000 };

/** Most characters of an error's text that are shown to a person. */
const MAX_SENTENCE = 300;

/** The request got no answer: the network failed, stood still too long, or we let go of it. */
export class Disconnected extends Error {
  /** @param {"network" | "timeout" | "aborted"} cause */
  constructor(cause) {
    super(cause);
    this.name = 'Disconnected';
    this.reason = cause;
  }
}

/** The server answered, but not with success. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} sentence what the server said, already shortened; may be empty
   * @param {number | null} retryAfter milliseconds the server asks us to wait, if it does
   */
  constructor(status, sentence, retryAfter) {
    super(sentence || `HTTP ${status}`);
    this.name = 'Refused';
    this.status = status;
    this.sentence = sentence;
    this.retryAfter = retryAfter;
  }
}

/**
 * Sends a request and resolves with the answer when its status is 2xx.
 *
 * @param {string} method
 * @param {string} url
 * @param {object} [options]
 * @param {Record<string, string>} [options.headers]
 * @param {Blob | null} [options.body]
 * @param {AbortSignal} [options.signal] aborting closes the connection at once
 * @param {(sent: number) => void} [options.onSent] bytes of the body handed to the network so far
 * @returns {Promise<XMLHttpRequest>}
 * @throws {Disconnected | Refused}
 */
export function request(method, url, { headers = {}, body = null, signal, onSent } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(new Disconnected('aborted'));
      return;
    }
    const xhr = new XMLHttpRequest();
    let cause = 'network';
    let timer = 0;
    const quiet = (limit) => {
      clearTimeout(timer);
      timer = setTimeout(() => { cause = 'timeout'; xhr.abort(); }, limit);
    };
    const letGo = () => { cause = 'aborted'; xhr.abort(); };
    const settle = (finish, value) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', letGo);
      finish(value);
    };

    xhr.open(method, url);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.onload = () => {
      if (xhr.status >= 200 && xhr.status < 300) settle(resolve, xhr);
      else settle(reject, refusal(xhr));
    };
    xhr.onerror = xhr.onabort = () => settle(reject, new Disconnected(cause));
    if (body) {
      xhr.upload.onprogress = (event) => { quiet(QUIET.body); onSent?.(event.loaded); };
      xhr.upload.onload = () => quiet(QUIET.bodyAnswer);
    }
    signal?.addEventListener('abort', letGo);
    quiet(body ? QUIET.body : QUIET.answer);
    xhr.send(body);
  });
}

function refusal(xhr) {
  const type = xhr.getResponseHeader('Content-Type') ?? '';
  // An HTML error comes from some proxy on the way; its markup tells a person nothing.
  const text = type.startsWith('text/plain') ? xhr.responseText.trim() : '';
  const sentence = text.length > MAX_SENTENCE ? `${text.slice(0, MAX_SENTENCE)}…` : text;
  return new Refused(xhr.status, sentence, retryAfter(xhr.getResponseHeader('Retry-After')));
}

function retryAfter(value) {
  if (!value) return null;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : null;
}
