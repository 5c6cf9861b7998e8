// Starts landfall with hooks, and sends small uploads with plain requests.

import { Landfall } from '../../clients/lib/landfall.js'

export const TUS = { 'Tus-Resumable': '1.0.0' }

/** Starts landfall with HTTP hooks at `url` for `events`. */
export function withHttpHooks(t, url, events, args = []) {
  return Landfall.start(t, {
    args: ['--hooks-http', url, '--hooks-enabled-events', events, ...args],
  })
}

/** Encodes `Upload-Metadata`. */
export function metadata(pairs) {
  return Object.entries(pairs)
    .map(([key, value]) => `${key} ${Buffer.from(value).toString('base64')}`)
    .join(',')
}

/** Creates an upload with all bytes in one request; returns the response and its text. */
export async function create(endpoint, data, { meta = {}, headers = {}, length } = {}) {
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: {
      ...TUS,
      'Upload-Length': String(length ?? data.length),
      'Content-Type': 'application/offset+octet-stream',
      ...(Object.keys(meta).length > 0 ? { 'Upload-Metadata': metadata(meta) } : {}),
      ...headers,
    },
    body: data,
  })
  const url = response.headers.get('Location')
  return { status: response.status, headers: response.headers, url, text: await response.text() }
}

/** Appends bytes to an upload. */
export async function append(url, offset, data) {
  const response = await fetch(url, {
    method: 'PATCH',
    headers: {
      ...TUS,
      'Upload-Offset': String(offset),
      'Content-Type': 'application/offset+octet-stream',
    },
    body: data,
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

/** Sends HEAD for an upload. */
export function head(url) {
  return fetch(url, { method: 'HEAD', headers: TUS })
}
