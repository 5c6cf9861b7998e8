// Two nodes that share a directory or a bucket. One of them stands still (SIGSTOP) in the middle of a request for longer
// than its lease lives, or the service forgets all leases; the other takes the upload over and acknowledges bytes. Whatever
// the first does then, these bytes stay.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { request as send } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Landfall } from '../clients/lib/landfall.js'
import { ask, Unanswered } from '../crash/lib/request.js'
import { emptyLeases, startPostgres } from '../grants/lib/postgres.js'
import { Fleet } from './lib/node.js'
import { Redis, startMoto } from './lib/services.js'

const ROUNDS = process.env.LANDFALL_LONG ? 20 : 1
const LENGTH = 900_000
const PIECE = 200_000
/** More than the lifetime of a lease. */
const STANDSTILL_MS = 2_600
const LEASE = ['-lease-ttl', '2s']
const DEADLINE_MS = 60_000

/** Two nodes on one directory. */
async function directory(t, args) {
  const shared = await mkdtemp(join(tmpdir(), 'landfall-freeze-'))
  t.after(() => rm(shared, { recursive: true, force: true }))
  const nodes = []
  for (let n = 0; n < 2; n += 1) nodes.push(await Landfall.start(t, { shared, args }))
  return nodes
}

/** A request whose body is sent in pieces; `answer` is its status, or undefined without a response. */
function slowPatch(url, offset, length) {
  const headers = {
    'Tus-Resumable': '1.0.0',
    'Upload-Offset': String(offset),
    'Content-Type': 'application/offset+octet-stream',
    'Content-Length': String(length),
  }
  const sent = send(url, { method: 'PATCH', headers, agent: false })
  let left = length
  const answer = new Promise((resolve) => {
    sent.once('response', (response) => {
      response.resume()
      resolve(response.statusCode)
    })
    sent.once('error', () => resolve(undefined))
    sent.once('close', () => resolve(undefined))
  })
  return {
    answer,
    /** Sends up to `max` bytes more, and keeps some; the last ones end the request. */
    write(max, kept = 0) {
      const size = Math.min(max, left - kept)
      // Its end has been sent.
      if (size <= 0) return
      left -= size
      if (!sent.destroyed) sent.write(Buffer.alloc(size, 'a'))
      if (left === 0) sent.end()
    },
    destroy: () => sent.destroy(),
  }
}

/** Asks again until `accepts` is satisfied. */
async function until(question, accepts, what) {
  const deadline = performance.now() + DEADLINE_MS
  for (;;) {
    let response
    try {
      response = await question()
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error
    }
    if (response && accepts(response)) return response
    if (performance.now() > deadline) throw new Error(`${what}: ${response?.status ?? 'no answer'}`)
    await sleep(25)
  }
}

const offsetOf = async (url) =>
  Number((await until(() => ask('HEAD', url), ({ status }) => status === 200, 'HEAD')).headers['upload-offset'])

/** Appends as a client does, which asks for the offset after each failure; returns what was acknowledged. */
async function append(url, letter, max) {
  let from
  const { headers } = await until(
    async () => {
      from = await offsetOf(url)
      return ask('PATCH', url, {
        headers: { 'Upload-Offset': String(from), 'Content-Type': 'application/offset+octet-stream' },
        body: Buffer.alloc(Math.min(max, LENGTH - from), letter),
      })
    },
    ({ status }) => status === 204,
    'PATCH',
  )
  return { from, to: Number(headers['upload-offset']) }
}

/** One standstill; returns how many of the acknowledged bytes were replaced. */
async function round([one, other], disturb) {
  const created = await ask('POST', one.endpoint, { headers: { 'Upload-Length': String(LENGTH) } })
  assert.equal(created.status, 201)
  const { pathname } = new URL(created.headers.location)
  const url = (node) => new URL(pathname, node.endpoint).href

  const late = slowPatch(url(one), 0, 3 * PIECE)
  late.write(PIECE)
  // A bucket may store nothing yet.
  const soon = performance.now() + 1_000
  while ((await offsetOf(url(one))) === 0 && performance.now() < soon) await sleep(25)
  const resume = await disturb(one, late)
  const acknowledged = await append(url(other), 'b', PIECE)
  await resume()
  late.write(LENGTH)
  const timeout = sleep(10_000, 'timeout', { ref: false })
  const status = await Promise.race([late.answer, timeout])
  late.destroy()
  // It may have replaced bytes without telling.
  assert.notEqual(status, 204, `acknowledged to its end, and from ${acknowledged.from} on to the other client`)

  assert.equal(await offsetOf(url(other)), acknowledged.to)
  const rest = await append(url(other), 'c', LENGTH)
  assert.deepEqual([rest.from, rest.to], [acknowledged.to, LENGTH])
  assert.equal(await offsetOf(url(one)), LENGTH)
  const [found, same] = await Promise.all([other, one].map(async (node) =>
    Buffer.from(await (await fetch(url(node))).arrayBuffer())))
  assert.equal(found.length, LENGTH)
  assert.ok(found.equals(same), 'the nodes return different bytes')
  const wrong = (letter, from, to) => found.subarray(from, to).filter((byte) => byte !== letter.charCodeAt(0)).length
  return wrong('a', 0, acknowledged.from) + wrong('b', acknowledged.from, acknowledged.to)
    + wrong('c', acknowledged.to, LENGTH)
}

/** The first node stands still, and its client goes on sending. */
async function freeze(one, late) {
  await one.freeze()
  late.write(PIECE)
  await sleep(STANDSTILL_MS)
  return () => one.thaw()
}

/** The service forgets all leases, while the client of the first node goes on sending, but not to the end of its request. */
const forget = (service) => async (one, late) => {
  await service.forget()
  const timer = setInterval(() => late.write(2_000, PIECE), 20)
  return () => clearInterval(timer)
}

async function rounds(t, nodes, disturb) {
  let replaced = 0
  for (let n = 0; n < ROUNDS; n += 1) replaced += await round(nodes, disturb)
  t.diagnostic(`${ROUNDS} rounds, ${replaced} bytes replaced`)
  assert.equal(replaced, 0)
}

const limit = { timeout: 60_000 + ROUNDS * 20_000 }

test('directory, leases in PostgreSQL: a node stands still, the table is emptied', limit, async (t) => {
  const postgres = await startPostgres(t)
  const nodes = await directory(t, ['-lease', postgres, ...LEASE])
  await t.test('freeze', (t) => rounds(t, nodes, freeze))
  await t.test('forget', (t) => rounds(t, nodes, forget({ forget: () => emptyLeases(postgres) })))
})

test('directory, leases in Redis: a node stands still, FLUSHALL', limit, async (t) => {
  const redis = await Redis.start(t)
  const nodes = await directory(t, ['-lease', redis.url, ...LEASE])
  await t.test('freeze', (t) => rounds(t, nodes, freeze))
  await t.test('forget', (t) => rounds(t, nodes, forget({ forget: () => redis.flush() })))
})

test('directory, leases in files: a node stands still', limit, async (t) => {
  const nodes = await directory(t, [])
  // The kernel keeps the lease of the first, so the other waits.
  await t.test('freeze', (t) => rounds(t, nodes, async (one, late) => {
    const resume = await freeze(one, late)
    const thawed = sleep(500).then(resume)
    return () => thawed
  }))
})

test('bucket, leases in Redis: a node stands still, FLUSHALL', limit, async (t) => {
  const place = await startMoto(t)
  const redis = await Redis.start(t)
  const { nodes } = await Fleet.start(t, place, 2, ['-lease', redis.url, ...LEASE])
  await t.test('freeze', (t) => rounds(t, nodes, freeze))
  await t.test('forget', (t) => rounds(t, nodes, forget({ forget: () => redis.flush() })))
})
