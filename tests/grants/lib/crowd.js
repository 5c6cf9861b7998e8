// Many clients that request grants, upload, and sometimes cancel. Each records what it saw.

import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, MIB, sha256 } from '../../clients/lib/source.js'
import { prepare } from '../../clients/lib/tus.js'

const RETRY_DELAYS = [0, 100, 200, 400, ...Array(60).fill(700)]

/** Retries until a node responds with another status than "unavailable"; nodes may die during a response. */
export async function patiently(caller, method, path, body) {
  for (;;) {
    const answer = await caller.ask(method, path, body).catch(() => null)
    if (answer && answer.status !== 503 && answer.status !== 429) return answer
    await sleep(100)
  }
}

/**
 * One client. What it is: `n` decides on size, way and whether it cancels. What it saw: `state`, `url` of
 * its upload, `digest`.
 */
async function goThrough(caller, n, random, begin) {
  const size = [0, 1, 40_000, MIB, 2 * MIB + 7, 3_333_333][n % 6]
  const seen = { id: `job-${n}`, size, cancels: n % 6 > 2 && n % 7 < 3 }
  await begin(n)
  const ask = { id: seen.id, filename: `${n}.bin`, filesize: size, filetype: 'application/x-landfall-test' }
  const granted = await patiently(caller, 'POST', '', ask)
  if (granted.status !== 201 && granted.status !== 200) throw new Error(`${seen.id}: ${granted.status} ${granted.text}`)
  const { upload_token: token, location } = granted.body
  const data = bytes(size, n)
  seen.digest = sha256(data)
  const { upload, requests, finished } = prepare(data, {
    endpoint: location,
    retryDelays: RETRY_DELAYS,
    chunkSize: n % 2 ? 500_000 : Infinity,
    ...(n % 3 === 0
      ? { headers: { 'Upload-Token': token } }
      : { metadata: { token, upload_request_id: seen.id } }),
    uploadDataDuringCreation: n % 4 === 1,
  })
  seen.requests = requests
  upload.start()
  if (seen.cancels) {
    while (!upload.url) await sleep(20)
    await sleep(600 * random())
    const answer = await patiently(caller, 'DELETE', `/${seen.id}`)
    await upload.abort()
    if (answer.status === 200) return { ...seen, state: 'cancelled' }
    if (answer.status !== 409) throw new Error(`${seen.id}: DELETE ${answer.status} ${answer.text}`)
    // Complete by then.
    return { ...seen, state: 'completed', url: upload.url }
  }
  return { ...seen, state: 'completed', url: await finished }
}

/** `count` clients, each from when `begin(n)` resolves; gives what each saw. */
export function crowd(caller, count, random, begin) {
  return Promise.all(Array.from({ length: count }, (_, n) =>
    goThrough(caller, n, random, begin).catch((error) => {
      error.message = `job-${n}: ${error.message}`
      throw error
    })))
}
