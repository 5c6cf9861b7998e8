// The HTTP requests of tus-js-client and their errors.

import './vendor/tus.min.js';

const { DefaultHttpStack } = globalThis.tus;

/** Timeouts without progress, in milliseconds. */
const TIMEOUT = { response: 60_000, body: 60_000, bodyResponse: 120_000 };

/** Maximum length of a displayed error text. */
const MAX_MESSAGE_LEN = 300;

/** The request got no response. */
export class ConnectionError extends Error {
  name = 'ConnectionError';
}

/** The server sent an error, or a response that cannot be true. */
export class RejectedError extends Error {
  name = 'RejectedError';

  /**
   * @param {number} status
   * @param {string} sentence the text of the response, truncated; may be empty
   * @param {number | null} retryAfter `Retry-After` in milliseconds, if present
   */
  constructor(status, sentence = '', retryAfter = null) {
    super(sentence || `HTTP ${status}`);
    this.status = status;
    this.sentence = sentence;
    this.retryAfter = retryAfter;
  }
}

/** XMLHttpRequest with timeouts, and with `Location` as this page can reach it. */
export class HttpStack extends DefaultHttpStack {
  createRequest(method, url) {
    const request = super.createRequest(method, url);
    const send = request.send.bind(request);
    request.send = async (body) => {
      const response = await withTimeout(request.getUnderlyingObject(), () => send(body));
      const header = response.getHeader.bind(response);
      response.getHeader = (name) => {
        const value = header(name);
        return name === 'Location' && value ? adoptLocation(value, url) : value;
      };
      return response;
    };
    return request;
  }
}

/** Rejects when a request makes no progress for some time, or is aborted. */
function withTimeout(xhr, send) {
  return new Promise((resolve, reject) => {
    let timer = 0;
    const restart = (limit) => {
      clearTimeout(timer);
      timer = setTimeout(() => xhr.abort(), limit);
    };
    xhr.upload.addEventListener('progress', () => restart(TIMEOUT.body));
    xhr.upload.addEventListener('load', () => restart(TIMEOUT.bodyResponse));
    xhr.addEventListener('abort', () => reject(new ConnectionError('aborted')));
    xhr.addEventListener('loadend', () => clearTimeout(timer));
    restart(TIMEOUT.response);
    send().then(resolve, reject);
  });
}

/** Converts an error of tus-js-client. */
export function convertError(error) {
  if (error.causingError instanceof RejectedError) return error.causingError;
  if (error.originalResponse) {
    const response = error.originalResponse;
    return rejection(response.getStatus(), { get: (name) => response.getHeader(name) }, response.getBody());
  }
  return error.originalRequest ? new ConnectionError(error.message) : error;
}

/** Creates the error of a response. @param {{ get: (name: string) => string | null | undefined }} headers */
export function rejection(status, headers, body) {
  const header = (name) => headers.get(name) ?? '';
  return new RejectedError(status, sentenceOf(header('Content-Type'), body), retryAfter(header('Retry-After')));
}

/** Returns the text of an error, but not the HTML error page of a proxy. */
function sentenceOf(type, body) {
  let sentence = '';
  if (type.startsWith('text/plain')) sentence = body.trim();
  else if (type.startsWith('application/problem+json')) sentence = problemOf(body);
  return sentence.length > MAX_MESSAGE_LEN ? `${sentence.slice(0, MAX_MESSAGE_LEN)}…` : sentence;
}

function problemOf(body) {
  try {
    const { detail, title } = JSON.parse(body);
    return String(detail ?? title ?? '');
  } catch {
    return '';
  }
}

function retryAfter(value) {
  if (!value) return null;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : null;
}

/** Returns a header that has to be a number of bytes, or null. */
export function readNumber(value) {
  return value !== null && /^\d{1,16}$/.test(value) ? Number(value) : null;
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
