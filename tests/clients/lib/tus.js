// tus-js-client with promises, and a record of its requests.

import { setTimeout as sleep } from 'node:timers/promises'
import tus from 'tus-js-client'

export const CHUNK = 2_000_000

/** Short enough for tests, long enough for a restart of the server. */
export const RETRY_DELAYS = [0, 50, 100, 200, 400, 800, 1600, 3200, 6400]

/**
 * An upload of `source` (a Buffer or Readable). `requests` lists method, status and offset of
 * each request that was answered; `finished` settles when the client says it is done.
 */
export function prepare(source, options) {
  const requests = []
  const settle = {}
  const finished = new Promise((resolve, reject) => Object.assign(settle, { resolve, reject }))
  // A test that stops waiting must not fail by an error that arrives later.
  finished.catch(() => {})
  const upload = new tus.Upload(source, {
    retryDelays: RETRY_DELAYS,
    ...options,
    onAfterResponse(request, response) {
      requests.push({
        method: request.getMethod(),
        url: request.getURL(),
        status: response.getStatus(),
        sentOffset: request.getHeader('Upload-Offset'),
        offset: response.getHeader('Upload-Offset'),
      })
    },
    onSuccess: () => settle.resolve(upload.url),
    onError: settle.reject,
  })
  return { upload, requests, finished }
}

/** Uploads `source`; returns the URL and the requests. */
export async function uploadAll(source, options) {
  const { upload, requests, finished } = prepare(source, options)
  upload.start()
  const url = await finished
  return { url, requests }
}

/**
 * Aborts, and waits as long as a person needs to press the button again. tus-js-client 4.3.1
 * takes the end of the aborted request for a failure when it is started in the same moment, and
 * then uploads twice at once.
 */
export async function pause(upload) {
  await upload.abort()
  await sleep(100)
}

/** Returns the number of `requests` with `method`. */
export function count(requests, method) {
  return requests.filter((request) => request.method === method).length
}

/** Waits until `condition()` holds; throws when it does not within `ms`. */
export async function until(condition, ms = 30_000) {
  const deadline = performance.now() + ms
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${condition}`)
    await sleep(10)
  }
}

export const { FileUrlStorage, Upload } = tus
