// An upload link (`/#token=…`): with its secret, the page requests a grant for each file.
//
// The secret is taken out of the address bar. It stays in memory, and in sessionStorage for a reload, and is sent in the
// Authorization header alone: a URL would be in histories and logs.

import { ConnectionError, RejectedError, rejection } from './http.js';
import { day, text } from './i18n.js';

const STORED = 'landfall link';

const TIMEOUT = 60_000;

/** Returns the link of the page, or null. @param {string} path the path of the API; empty if the server takes no links */
export function takeLink(path) {
  // A link that is pasted into the address bar of the page.
  addEventListener('hashchange', () => { if (secretOf(location.hash)) location.reload(); });
  let secret = secretOf(location.hash);
  try {
    if (!path) sessionStorage.removeItem(STORED);
    else if (secret) sessionStorage.setItem(STORED, secret);
    else secret = sessionStorage.getItem(STORED);
  } catch { /* storage is unavailable */ }
  if (secretOf(location.hash)) history.replaceState(null, '', location.pathname + location.search);
  return secret ? new Link(path && new URL(path, document.baseURI).href, secret) : null;
}

const secretOf = (hash) => new URLSearchParams(hash.slice(1)).get('token');

class Link {
  #url;

  constructor(url, secret) {
    this.#url = url;
    this.secret = secret;
  }

  /**
   * Returns the name of the link, its maximum size in bytes or null, when it ends (RFC 3339) or null, and as texts why it accepts no
   * more files, if so, and its other limits; throws if it has ended, and if the server takes no links.
   */
  async describe() {
    if (!this.#url) throw new RejectedError(501);
    const { name, max_size: maxSize, files, max_files: maxFiles, expires_at: end } = await this.#send('GET', '/link');
    const full = maxFiles !== null && files >= maxFiles ? text('link_full', { count: maxFiles }) : '';
    const sentences = [
      maxFiles === null ? '' : text('link_files', { count: maxFiles - files }),
      end ? text('link_until', { date: day(end, { timeStyle: 'short' }) }) : '',
    ];
    return { name, maxSize, end, full, limits: sentences.filter(Boolean).join(' ') };
  }

  /** Requests the upload token of a file. The id of its record makes that idempotent. */
  async requestToken({ id, name, size, type, path }) {
    const request = { filename: name, filesize: size };
    if (type) request.filetype = type;
    if (path) request.relativePath = path;
    const post = (requestId) => this.#send('POST', '', { id: requestId, ...request });
    let grant = null;
    try {
      grant = await post(id);
    } catch (error) {
      if (error.status !== 410) throw error;
    }
    // The first one has expired or failed, or is complete although its response was lost.
    return grant?.upload_token ?? (await post(`${id}-${Date.now()}`)).upload_token;
  }

  async #send(method, below, json) {
    const headers = { Authorization: `Bearer ${this.secret}` };
    if (json) headers['Content-Type'] = 'application/json';
    let response;
    let body;
    try {
      const signal = AbortSignal.timeout(TIMEOUT);
      response = await fetch(this.#url + below, { method, headers, body: json && JSON.stringify(json), signal, credentials: 'omit' });
      body = await response.text();
    } catch (error) {
      throw new ConnectionError(error.message);
    }
    if (response.status === 401) throw new RejectedError(401, text('link_ended'));
    if (!response.ok) throw rejection(response.status, response.headers, body);
    return JSON.parse(body);
  }
}
