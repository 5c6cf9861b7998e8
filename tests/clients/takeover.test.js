// tus-js-client while its own old requests, or another client's, still write the same upload.
//
// LANDFALL_LONG=1 runs 50 rounds of each instead of 10.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { bytes, MIB, randomNumbers, sha256 } from './lib/source.js'
import { count, prepare } from './lib/tus.js'

const IS_LONG = Boolean(process.env.LANDFALL_LONG)
const ROUNDS = IS_LONG ? 50 : 10
const TIMEOUT_MS = ROUNDS * 15_000
/** The client's own default. */
const RETRY_DELAYS = [0, 1000, 3000, 5000]

/** Runs `round` again and again; fails with what went wrong in each round that did. */
async function everyRound(t, round) {
  const random = randomNumbers(t)
  const failures = []
  for (let n = 0; n < ROUNDS; n += 1) {
    try {
      await round(n, random)
    } catch (error) {
      failures.push(`round ${n}: ${error.message}`)
    }
  }
  assert.deepEqual(failures, [])
}

function history(requests) {
  return requests.map((r) => `${r.method} ${r.sentOffset ?? ''} ${r.status} ${r.offset ?? ''}`).join(', ')
}

for (const [title, pause] of [
  ['in the same moment', () => {}],
  ['once the abort is done', (aborted) => aborted],
  ['a moment later', (aborted) => aborted.then(() => sleep(20))],
]) {
  test(`abort and start ${title}`, { timeout: TIMEOUT_MS }, async (t) => {
    const landfall = await Landfall.start(t)
    await everyRound(t, async (n, random) => {
      const data = bytes(24 * MIB, n)
      // The client takes each abort for a failure if it is started in the same moment: one more try.
      const { upload, requests, finished } = prepare(data, {
        endpoint: landfall.endpoint,
        retryDelays: [0, 0, 0, ...RETRY_DELAYS],
      })
      upload.start()
      for (let abort = 0; abort < 3; abort += 1) {
        await sleep(5 + 15 * random())
        const waiting = pause(upload.abort())
        if (waiting) await waiting
        upload.start()
      }
      await finished.catch((error) => {
        throw new Error(`${error.message}: ${history(requests)}`)
      })
      // A creation whose response arrives during an abort continues concurrently with the next one, and
      // `upload.url` may belong to either (see `pause` in lib/tus.js). Every complete upload must have all bytes.
      const done = requests.filter(({ offset }) => offset === String(data.length))
      assert.ok(done.length > 0, history(requests))
      for (const { url } of done) assert.equal(await landfall.sha256(url), sha256(data), history(requests))
    })
  })
}

test('a client without retries aborts, and continues', { timeout: TIMEOUT_MS }, async (t) => {
  const landfall = await Landfall.start(t)
  const conflicts = []
  await everyRound(t, async (n, random) => {
    const data = bytes(24 * MIB, n)
    const options = { endpoint: landfall.endpoint, retryDelays: null }
    const first = prepare(data, options)
    first.upload.start()
    while (!first.upload.url) await sleep(1)
    await sleep(15 * random())
    await first.upload.abort()
    // One that knows the URL alone, as after a reload.
    const resume = async () => {
      const { upload, requests, finished } = prepare(data, { ...options, uploadUrl: first.upload.url })
      upload.start()
      return finished.catch((error) => {
        error.message += `: ${history(requests)}`
        throw error
      })
    }
    const url = await resume().catch((error) => {
      // A paused machine may read the aborted request only after its successor: the user resumes once more.
      if (![409, 423].includes(error.originalResponse?.getStatus())) throw error
      conflicts.push(error.message)
      return resume()
    })
    assert.equal(await landfall.sha256(url), sha256(data))
  })
  assert.ok(conflicts.length <= 0.3 * ROUNDS, conflicts.join('\n'))
})

test('the connection is reset at 20 random places', { timeout: TIMEOUT_MS }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  await everyRound(t, async (n, random) => {
    const data = bytes(16 * MIB, n)
    let left = 20
    proxy.failEach(() => {
      if (left === 0) return null
      left -= 1
      return { bytes: Math.floor(random() * MIB), kind: 'reset' }
    })
    const { upload, requests, finished } = prepare(data, {
      endpoint: proxy.endpoint,
      // Every reset may come before a byte counts, and so be one more try.
      retryDelays: Array(20).fill(0),
    })
    upload.start()
    const url = await finished.catch((error) => {
      throw new Error(`${error.message}: ${history(requests)}`)
    })
    assert.equal(await landfall.sha256(url), sha256(data))
  })
})

test('two tabs send the same upload', { timeout: TIMEOUT_MS }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  // So slow that the second tab comes too late again and again.
  if (IS_LONG) proxy.bytesPerSecond = 8 * MIB
  await everyRound(t, async (n, random) => {
    const data = bytes(24 * MIB, n)
    const options = { endpoint: proxy.endpoint, retryDelays: RETRY_DELAYS }
    const one = prepare(data, options)
    one.upload.start()
    while (!one.upload.url) await sleep(1)
    await sleep(10 * random())
    const other = prepare(data, { ...options, uploadUrl: one.upload.url })
    other.upload.start()
    const url = await Promise.all([one.finished, other.finished]).then(
      ([url]) => url,
      (error) => {
        throw new Error(`${error.message}: ${history(one.requests)} | ${history(other.requests)}`)
      },
    )
    assert.equal(await landfall.sha256(url), sha256(data))
    assert.equal(count(other.requests, 'POST'), 0)
  })
})

test('a page that polls the offset disturbs no upload', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 4 * MIB
  const data = bytes(8 * MIB)
  const { upload, requests, finished } = prepare(data, {
    endpoint: proxy.endpoint,
    retryDelays: null,
  })
  upload.start()
  while (!upload.url) await sleep(1)
  let isDone = false
  finished.finally(() => (isDone = true)).catch(() => {})
  const offsets = []
  while (!isDone) {
    offsets.push((await landfall.head(upload.url)).offset)
    await sleep(50)
  }
  const url = await finished
  assert.equal(count(requests, 'PATCH'), 1, 'it was sent in one request')
  assert.deepEqual(offsets, offsets.toSorted((a, b) => a - b))
  assert.ok(new Set(offsets).size > 1, `${offsets}`)
  assert.equal(await landfall.sha256(url), sha256(data))
})
