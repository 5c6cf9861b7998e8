// Uploads of every kind by tus-js-client, and checks of their content.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Agent } from 'node:http'
import { Readable } from 'node:stream'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, MIB, sha256 } from '../../clients/lib/source.js'
import { prepare } from '../../clients/lib/tus.js'

// The package of tests/clients has it.
const { DefaultHttpStack } = createRequire(
  new URL('../../clients/package.json', import.meta.url),
)('tus-js-client')

/** Longer than any load here, and shorter than the timeout of a test. */
const LIMIT_MS = 80_000

/** Retries for a minute without progress. */
const RETRY_DELAYS = [0, 100, 200, 400, ...Array(60).fill(1000)]

/** Errors that a client may meet and recover from. */
const PASSING = new Set([409, 423, 503])

/**
 * `count` uploads around every size at which something changes: nothing at all, the smallest
 * part, the preferred one, several.
 */
export function variety(count, largest = 40 * MIB) {
  const sizes = [
    0,
    1,
    64 * 1024,
    MIB,
    5 * MIB - 1,
    5 * MIB,
    5 * MIB + 1,
    8 * MIB,
    8 * MIB + 1,
    11_111_111,
    16 * MIB + 321,
    24 * MIB,
    40 * MIB,
  ].filter((size) => size <= largest)
  const chunks = [Infinity, 2_000_000, 6_000_000, 5 * MIB, 777_777, 17 * MIB, Infinity]
  const parallel = [1, 1, 3, 1, 2]
  return Array.from({ length: count }, (_, n) => {
    const size = sizes[n % sizes.length]
    const chunkSize = chunks[n % chunks.length]
    const parallelUploads = size > 1000 ? parallel[n % parallel.length] : 1
    return {
      seed: n + 1,
      size,
      chunkSize,
      parallelUploads,
      // A deferred length needs a stream, which may not be empty here, and chunks.
      deferred: n % 6 === 4 && size > 0 && chunkSize !== Infinity && parallelUploads === 1,
      // Half of the clients open a connection per request, so that they use all nodes.
      keepAlive: n % 2 === 0,
    }
  })
}

/** Uploads one of `variety`; returns its URL, its digest and the responses. */
async function uploadOne(endpoint, kind, active) {
  const data = bytes(kind.size, kind.seed)
  // Buffers rather than objects: of those, tus-js-client reads more than it requested.
  const source = kind.deferred ? Readable.from([data], { objectMode: false }) : data
  const agent = new Agent({ keepAlive: kind.keepAlive })
  const { upload, requests, finished } = prepareAgain(source, {
    endpoint,
    chunkSize: kind.chunkSize,
    retryDelays: RETRY_DELAYS,
    httpStack: new DefaultHttpStack({ agent }),
    metadata: { filename: `${kind.seed}.bin`, filetype: 'image/png' },
    ...(kind.parallelUploads > 1 ? { parallelUploads: kind.parallelUploads } : {}),
    ...(kind.deferred ? { uploadLengthDeferred: true } : {}),
  })
  const story = () => `${JSON.stringify(kind)}\n${requests.map(told).join('\n')}`
  active.set(upload, story)
  upload.start()
  try {
    const url = await finished
    return { ...kind, url, requests, sha256: sha256(data) }
  } catch (error) {
    error.message += `\n${story()}`
    throw error
  } finally {
    active.delete(upload)
    agent.destroy()
  }
}

/**
 * Like `prepare`, with a person who presses the button again: tus-js-client retries every request
 * but the one that joins parallel parts.
 */
function prepareAgain(source, options) {
  let joins = 0
  const { upload, requests, finished } = prepare(source, options)
  const { onError } = upload.options
  upload.options.onError = (error) => {
    const answer = error.originalResponse
    const passes = !answer || PASSING.has(answer.getStatus())
    if (!options.parallelUploads || !passes || joins >= 10) return onError(error)
    joins += 1
    setTimeout(() => upload.start(), 500)
  }
  return { upload, requests, finished }
}

/** Uploads `kinds`, at most `atOnce` of them concurrently. */
export async function uploadMany(endpoint, kinds, atOnce) {
  const left = [...kinds]
  const done = []
  const active = new Map()
  const worker = async () => {
    for (let kind = left.shift(); kind; kind = left.shift()) {
      done.push(await uploadOne(endpoint, kind, active))
    }
  }
  try {
    const late = sleep(LIMIT_MS, true, { ref: false })
    const workers = Promise.all(Array.from({ length: atOnce }, worker))
    if ((await Promise.race([workers, late])) === true) {
      const stories = [...active.values()].map((story) => story())
      throw new Error(`not done within ${LIMIT_MS} ms:\n${stories.join('\n')}`)
    }
  } finally {
    // After a failure the others would continue to retry.
    for (const upload of active.keys()) upload.abort()
  }
  return done
}

function told({ method, url, status, sentOffset, offset }) {
  return `${method} ${new URL(url).pathname} ${sentOffset ?? ''} -> ${status} ${offset ?? ''}`
}

/**
 * Checks what the client was told on its way: nothing but offsets that only grow, and refusals
 * that pass.
 */
export function assertCalm({ requests, ...kind }) {
  const story = () => `${JSON.stringify(kind)}\n${requests.map(told).join('\n')}`
  const acknowledged = new Map()
  for (const { method, url, status, offset } of requests) {
    assert.ok(status < 300 || PASSING.has(status), `${method} was answered ${status}\n${story()}`)
    if (offset === undefined || status >= 300) continue
    const before = acknowledged.get(url) ?? 0
    assert.ok(Number(offset) >= before, `${offset} after ${before}\n${story()}`)
    acknowledged.set(url, Number(offset))
  }
}

/** Downloads from one of `nodes` and compares length and digest. */
export async function assertArrived(node, { url, size, sha256: digest, ...kind }) {
  const response = await fetch(node.own(url))
  assert.equal(response.status, 200, `${url}: ${await refusal(response)}`)
  const hash = createHash('sha256')
  let length = 0
  for await (const chunk of response.body ?? []) {
    hash.update(chunk)
    length += chunk.length
  }
  assert.equal(length, size, `${url} ${JSON.stringify(kind)}`)
  assert.equal(hash.digest('hex'), digest, `${url} ${JSON.stringify(kind)}`)
  assert.equal(response.headers.get('Content-Type'), 'image/png')
}

async function refusal(response) {
  return response.ok ? 'ok' : `${response.status} ${await response.text()}`
}

/** Runs `happen` during uploads and checks them afterwards. */
export async function during(fleet, uploads, happen) {
  const { balancer, nodes } = fleet
  let over = false
  const uploading = uploadMany(balancer.endpoint, uploads, 8).finally(() => {
    over = true
  })
  // It is awaited below, and must not count as unhandled until then.
  uploading.catch(() => {})
  await happen(() => over)
  assert.ok(!over, 'it happened while uploads were on their way')
  balancer.bytesPerSecond = Infinity
  const done = await uploading
  for (const [n, upload] of done.entries()) {
    assertCalm(upload)
    await assertArrived(nodes[n % nodes.length], upload)
  }
  return done
}
