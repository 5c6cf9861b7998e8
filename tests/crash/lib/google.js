// Uses a bucket of Google Cloud Storage without landfall: the JSON API, with the token of the metadata server.

import { setTimeout as sleep } from 'node:timers/promises'

/** Longer than the second for which a name may not be written again. */
const RETRY_MS = 300
const MAX_ATTEMPTS = 20

async function token({ endpoint }) {
  const url = `${endpoint}/computeMetadata/v1/instance/service-accounts/default/token`
  const response = await fetch(url, { headers: { 'Metadata-Flavor': 'Google' } })
  return (await response.json()).access_token
}

/** A call with the bucket's path; repeated while the service asks for it. */
async function call(place, method, path, { body, type } = {}) {
  place.token ??= await token(place)
  const headers = { Authorization: `Bearer ${place.token}` }
  if (type) headers['Content-Type'] = type
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(`${place.endpoint}${path}`, { method, headers, body })
    if (response.ok) return response
    const error = new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
    if (response.status !== 429 || attempt === MAX_ATTEMPTS) throw Object.assign(error, { status: response.status })
    await sleep(RETRY_MS)
  }
}

/** The names of all objects, and their sizes. */
export async function objects(place) {
  const found = new Map()
  for (let next = ''; ; ) {
    const path = `/storage/v1/b/${place.bucket}/o?pageToken=${encodeURIComponent(next)}`
    const page = await (await call(place, 'GET', path)).json()
    for (const { name, size } of page.items ?? []) found.set(name, Number(size))
    next = page.nextPageToken
    if (!next) return found
  }
}

/** The bytes of an object. */
export async function object(place, name) {
  const response = await call(place, 'GET', `/storage/v1/b/${place.bucket}/o/${encodeURIComponent(name)}?alt=media`)
  return Buffer.from(await response.arrayBuffer())
}

/** Writes an object. */
export async function put(place, name, data) {
  const path = `/upload/storage/v1/b/${place.bucket}/o?uploadType=media&name=${encodeURIComponent(name)}`
  await call(place, 'POST', path, { body: data, type: 'application/octet-stream' })
}
