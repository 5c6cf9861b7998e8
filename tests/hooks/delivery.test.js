// At-least-once delivery: failing receivers, outages of receivers, and kill -9.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { Webhook } from 'standardwebhooks'
import { bytes, MIB, randomNumbers } from '../clients/lib/source.js'
import { FaultProxy } from '../clients/lib/proxy.js'
import { prepare, until } from '../clients/lib/tus.js'
import { uploadManySmall } from './lib/fast.js'
import { flapping } from './lib/flapping.js'
import { assertDistinct, assertDeliveries, byUpload, uploadOf } from './lib/ledger.js'
import { python, run } from './lib/programs.js'
import { Receiver, raw } from './lib/receiver.js'
import { TUS, append, create, head, withHttpHooks } from './lib/start.js'

const VERIFY = fileURLToPath(new URL('receivers/verify.py', import.meta.url))
// On a slow machine no upload would complete before the next kill.
const MAX_KILLS = 15
const EVENTS = 'post-create,post-finish,post-terminate'
// An event that fails holds later ones for longer than its failures last.
const IN_ORDER = ['--events-max-hold', '1m']

/** Waits until `isDone`, and nothing was received for two seconds; at most `ms`. */
async function untilQuiet(receiver, isDone, ms) {
  await until(isDone, ms)
  for (let seen = -1; seen !== receiver.deliveries.length; await sleep(2_000)) {
    await until(isDone, ms)
    seen = receiver.deliveries.length
  }
}

function arrivedAtLeast(receiver, hook, count) {
  return new Set(receiver.of(hook).map(({ id }) => id)).size >= count
}

// 10,000 events with LANDFALL_LONG=1.
const FAST = process.env.LANDFALL_LONG ? 4_000 : 800

test('a receiver that fails half of the time gets every event', { timeout: 240_000 }, async (t) => {
  const receiver = await Receiver.start(t, flapping(randomNumbers(t)))
  const landfall = await withHttpHooks(t, receiver.url, EVENTS, IN_ORDER)
  const began = performance.now()
  const uploads = await uploadManySmall(landfall.endpoint, FAST, { removes: (n) => n % 2 === 0 })
  const uploaded = performance.now()
  await untilQuiet(receiver, () => arrivedAtLeast(receiver, 'post-create', FAST)
    && arrivedAtLeast(receiver, 'post-finish', FAST)
    && arrivedAtLeast(receiver, 'post-terminate', FAST / 2), 120_000)
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`
  t.diagnostic(`uploaded in ${seconds(uploaded - began)}, received ${seconds(performance.now() - uploaded)} `
    + `later; ${receiver.deliveries.length} deliveries, ${receiver.failures} failed`)

  const received = byUpload(receiver.deliveries)
  assert.equal(received.size, uploads.length)
  for (const { url, isRemoved } of uploads) {
    const id = landfall.idOf(url)
    const end = isRemoved ? ['post-terminate'] : []
    assertDeliveries(id, received.get(id) ?? [], ['post-create', 'post-finish', ...end])
  }
  assertDistinct(receiver.deliveries)
  const share = receiver.deliveries.length - 2.5 * FAST
  assert.ok(share > 2 * FAST, `only ${share} of the answers failed`)
})

/** Uploads with tus-js-client, some of which the client terminates halfway. */
function uploadSome(endpoint, random, count) {
  const uploads = Array.from({ length: count }, (_, n) => {
    const size = [1, 50_000, MIB, 2 * MIB + 7][n % 4]
    const { upload, requests, finished } = prepare(bytes(size, n), {
      endpoint,
      retryDelays: Array(100).fill(200),
      metadata: { filename: `${n}.bin` },
      uploadDataDuringCreation: n % 3 === 0,
      chunkSize: 400_000,
    })
    const kind = { n, size, requests, finished: finished.then(() => upload.url), isRemoved: false }
    return { kind, upload, pause: random() * 15_000 }
  })
  for (const { upload, pause } of uploads) setTimeout(() => upload.start(), pause)
  return uploads.map(({ kind }) => kind)
}

/**
 * Sends DELETE on a separate connection: Node's fetch loses a request for good if its pooled connection
 * closes at that moment, as the server is killed.
 */
function sendDelete(url) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'DELETE', headers: TUS, agent: false }, (response) => {
      response.resume().once('close', () => resolve(response.statusCode))
    })
    sent.setTimeout(20_000, () => reject(new Error(`DELETE ${url} hangs`)))
    sent.once('error', () => resolve(null)).end()
  })
}

/** Repeats DELETE until there is a response; a hanging request is a failure. */
async function remove(url) {
  for (;;) {
    const status = await sendDelete(url)
    // 404: the response to an earlier attempt came too late.
    if (status === 204 || status === 404) return
    await sleep(100)
  }
}

test('repeated kill -9: events arrive at least once and in order', { timeout: 180_000 }, async (t) => {
  const random = randomNumbers(t)
  const receiver = await Receiver.start(t, flapping(random))
  const landfall = await withHttpHooks(t, receiver.url, EVENTS, IN_ORDER)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 2 * MIB

  let over = false
  let kills = 0
  const killing = (async () => {
    while (!over && kills < MAX_KILLS) {
      await sleep(300 + 1_500 * random())
      await landfall.kill()
      kills += 1
      await sleep(200 * random())
      await landfall.restart()
    }
  })()
  const uploads = uploadSome(proxy.endpoint, random, 60)
  const uploading = Promise.all(uploads.map(async (upload) => {
    upload.url = await upload.finished
    upload.isRemoved = upload.n % 5 === 0
    if (upload.isRemoved) await remove(new URL(new URL(upload.url).pathname, landfall.endpoint))
  })).finally(() => {
    over = true
  })
  // A server that does not restart fails the test at once.
  await Promise.all([uploading, killing])
  t.diagnostic(`${kills} kills, ${proxy.faults} faults`)
  assert.ok(kills >= 8, `only ${kills} kills`)

  // All uploads on disk have events, even if the response to their creation was lost.
  const stored = new Map((await landfall.allInfos()).map((info) => [info.ID, info]))
  const wanted = new Map()
  for (const { url, isRemoved } of uploads) {
    const end = isRemoved ? ['post-terminate'] : []
    wanted.set(landfall.idOf(url), ['post-create', 'post-finish', ...end])
  }
  for (const id of stored.keys()) {
    if (wanted.has(id)) continue
    const { offset, length } = await landfall.head(new URL(`/files/${id}`, landfall.endpoint))
    wanted.set(id, offset === length ? ['post-create', 'post-finish'] : ['post-create'])
  }
  // The final event of an upload is the last delivery, also where an earlier event is delivered again.
  const missing = () => {
    const received = byUpload(receiver.deliveries)
    return [...wanted].map(([id, hooks]) => [id, hooks, (received.get(id) ?? []).map(({ hook }) => hook)])
      .filter(([, hooks, arrived]) => !hooks.every((hook) => arrived.includes(hook)) || arrived.at(-1) !== hooks.at(-1))
  }
  await untilQuiet(receiver, () => missing().length === 0, 90_000).catch((error) => {
    error.message += missing().map(([id, hooks, arrived]) => `\n${id}: wanted ${hooks}, received ${arrived}`).join('')
    throw error
  })
  const received = byUpload(receiver.deliveries)
  for (const [id, hooks] of wanted) assertDeliveries(id, received.get(id), hooks, { replayed: true })
  // There is no event of an upload that never existed.
  for (const id of received.keys()) assert.ok(wanted.has(id), `an event of ${id}, which does not exist`)
  assertDistinct(receiver.deliveries)
})

test('a receiver gets all events after an outage', { timeout: 60_000 }, async (t) => {
  const receiver = await Receiver.start(t)
  const landfall = await withHttpHooks(t, receiver.url, EVENTS, IN_ORDER)
  await receiver.close()
  const uploads = await uploadManySmall(landfall.endpoint, 50)
  await sleep(1_500)
  // Pending events survive a restart in order.
  await landfall.stop()
  await landfall.restart()
  await sleep(500)
  assert.equal(receiver.deliveries.length, 0)
  await receiver.listen()
  await untilQuiet(receiver, () => arrivedAtLeast(receiver, 'post-finish', 50), 30_000)
  const received = byUpload(receiver.deliveries)
  for (const { url } of uploads) {
    assertDeliveries(landfall.idOf(url), received.get(landfall.idOf(url)) ?? [], ['post-create', 'post-finish'])
  }
})

test('signatures are valid Standard Webhooks', { timeout: 60_000 }, async (t) => {
  const old = `whsec_${Buffer.alloc(32, 'old secret').toString('base64')}`
  const fresh = `whsec_${Buffer.alloc(24, 'new secret').toString('base64')}`
  const receiver = await Receiver.start(t)
  const landfall = await withHttpHooks(
    t, receiver.url, `pre-create,${EVENTS}`, ['--hooks-http-secret', `${fresh},${old}`])
  await create(landfall.endpoint, Buffer.from('signed'), { meta: { filename: 'ü <&>.txt' } })
  await until(() => receiver.deliveries.length >= 3)
  for (const { body, headers, message } of receiver.deliveries) {
    for (const secret of [old, fresh]) {
      assert.deepEqual(new Webhook(secret).verify(body, headers), message)
    }
    const judged = await run(python(), [VERIFY, old], { input: JSON.stringify({ body, headers }) })
    assert.equal(judged.code, 0, judged.stderr)
    assert.throws(() => new Webhook(Buffer.alloc(32).toString('base64')).verify(body, headers))
    assert.throws(() => new Webhook(fresh).verify(body.replace('"Size":6', '"Size":7'), headers))
    assert.throws(() => new Webhook(fresh).verify(body, { ...headers, 'webhook-id': 'another' }))
  }
})

test('a slow pre-create delays no other request', { timeout: 120_000 }, async (t) => {
  // Longer than all other requests together on a busy machine, and shorter than --hooks-http-timeout.
  const DELAY = 10_000
  const isSlow = (delivery) => uploadOf(delivery).MetaData.filename === 'slow'
  const receiver = await Receiver.start(t, async (delivery) => {
    if (isSlow(delivery)) await sleep(DELAY)
  })
  const landfall = await withHttpHooks(t, receiver.url, 'pre-create')
  const begun = await create(landfall.endpoint, Buffer.from('a'), { length: 40 })
  const began = performance.now()
  const slow = Array.from({ length: 20 }, () =>
    create(landfall.endpoint, Buffer.from('x'), { meta: { filename: 'slow' } }))
  await until(() => receiver.deliveries.filter(isSlow).length === slow.length)

  await uploadManySmall(landfall.endpoint, 200)
  for (let offset = 1; offset < 40; offset += 1) {
    assert.equal((await append(begun.url, offset, Buffer.from('b'))).status, 204)
    assert.equal((await head(begun.url)).status, 200)
  }
  const others = performance.now() - began
  assert.ok(others < DELAY, `the others took ${others} ms`)
  for (const { status } of await Promise.all(slow)) assert.equal(status, 201)
  assert.ok(performance.now() - began >= DELAY - 50)
})

test('a receiver that fails post-create gets post-finish soon', { timeout: 120_000 }, async (t) => {
  for (const more of [[], ['--compat', 'tusd']]) {
    const receiver = await Receiver.start(t, ({ hook }) => (hook === 'post-create' ? raw(500) : undefined))
    const landfall = await withHttpHooks(t, receiver.url, EVENTS, more)
    await create(landfall.endpoint, Buffer.from('x'))
    await until(() => receiver.of('post-finish').length === 1, 25_000)
    assert.equal(receiver.deliveries[0].hook, 'post-create')
  }
})

test('post-create is answered before pre-finish is asked', { timeout: 60_000 }, async (t) => {
  const order = []
  const receiver = await Receiver.start(t, async ({ hook }) => {
    if (hook === 'post-create') await sleep(300)
    order.push(hook)
  })
  const landfall = await withHttpHooks(t, receiver.url, `${EVENTS},pre-create,pre-finish`)
  for (let n = 0; n < 5; n += 1) {
    await create(landfall.endpoint, Buffer.from('x'))
    await until(() => order.length === 4)
    assert.deepEqual(order.splice(0), ['pre-create', 'post-create', 'pre-finish', 'post-finish'])
  }
})
