// A clock that is set an hour back and forward during uploads.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'

import { Landfall } from '../clients/lib/landfall.js'
import { bytes } from '../clients/lib/source.js'
import { assertDistinct, assertDeliveries, byUpload } from '../hooks/lib/ledger.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { Clock } from './lib/clock.js'
import { sweep, until } from './lib/program.js'
import { BYTES, ask } from './lib/request.js'

const STEP = 50_000
const HOUR_MS = 3_600_000

test('a clock that jumps harms no upload and no event', { timeout: 60_000 }, async (t) => {
  const clock = await Clock.create(t)
  const receiver = await Receiver.start(t)
  const landfall = await Landfall.start(t, {
    args: [
      '-hooks-http', receiver.url, '-hooks-enabled-events', 'post-create,post-finish',
      '-expire-unfinished', '7d', '-sweep-interval', '1s',
    ],
    env: clock.env,
  })
  const jumps = [0, -3600, 3600, -3600, 0, 3600, 0]
  const uploads = []
  for (let n = 0; n < 3; n += 1) {
    const source = bytes(STEP * (jumps.length + 1), n)
    const { status, headers } = await ask('POST', landfall.endpoint, {
      headers: { 'Upload-Length': source.length, ...BYTES },
      body: source.subarray(0, STEP),
    })
    assert.equal(status, 201)
    uploads.push({ source, url: headers.location })
  }
  for (const [n, seconds] of jumps.entries()) {
    await clock.set(seconds)
    // Every other time the server is killed too, and its files have times in the future.
    if (n % 2 === 1) {
      await landfall.kill()
      await landfall.restart()
    }
    for (const [which, { source, url }] of uploads.entries()) {
      const start = STEP * (n + 1)
      const told = await ask('HEAD', url)
      assert.equal(told.status, 200, `HEAD after a jump to ${seconds} s`)
      assert.equal(Number(told.headers['upload-offset']), start)
      // A running server keeps the date of its responses until the clock has passed it.
      const skew = n % 2 === 0 ? 0 : Math.abs(new Date(told.headers.date) - Date.now() - 1000 * seconds)
      assert.ok(skew < HOUR_MS / 10, `the clock is ${skew} ms from where it was set`)
      const body = source.subarray(start, start + STEP)
      const { status } = await ask('PATCH', url, { headers: { 'Upload-Offset': start, ...BYTES }, body })
      assert.equal(status, 204, `PATCH of upload ${which} after a jump to ${seconds} s`)
    }
  }
  for (const { source, url } of uploads) assert.ok((await readFile(landfall.pathOf(url))).equals(source))
  const isTold = () => receiver.of('post-finish').length >= uploads.length && receiver.of('post-create').length >= uploads.length
  await until(isTold)
  const told = byUpload(receiver.deliveries)
  for (const { url } of uploads) {
    const id = landfall.idOf(url)
    assertDeliveries(id, told.get(id), ['post-create', 'post-finish'], { replayed: true })
  }
  assertDistinct(receiver.deliveries)

  // An upload created by a clock that was ahead must neither expire early nor look older than it is.
  const { headers } = await ask('POST', landfall.endpoint, { headers: { 'Upload-Length': 9 } })
  await landfall.stop()
  const swept = await sweep({ args: ['-upload-dir', landfall.dir] }, 60_000)
  assert.equal(swept.code, 0, swept.stderr)
  assert.ok(existsSync(landfall.pathOf(headers.location)), 'a young upload was swept away')
})

/** Until a sweep by a clock that shows at least this time has ended. */
async function swept(landfall, ms) {
  const file = join(landfall.dir, '.landfall', 'clock')
  await until(async () => {
    const text = await readFile(file, 'utf8').catch(() => '0 0 0')
    return Number(text.split(' ')[1]) * 1000 >= ms
  })
}

const DAYS_30 = 30 * 24 * 3600
const ROUNDS = process.env.LANDFALL_LONG === '1' ? 100 : 2

test('a clock that is 30 days ahead for a while removes no acknowledged byte', { timeout: 30_000 * ROUNDS }, async (t) => {
  const clock = await Clock.create(t)
  const landfall = await Landfall.start(t, {
    args: ['-expire-unfinished', '7d', '-sweep-interval', '1s'],
    env: clock.env,
  })
  const uploads = []
  const finished = bytes(STEP, 99)
  const { headers } = await ask('POST', landfall.endpoint, {
    headers: { 'Upload-Length': finished.length, ...BYTES },
    body: finished,
  })
  // An image optimizer.
  await truncate(landfall.pathOf(headers.location), STEP / 2)
  await utimes(landfall.pathOf(headers.location), new Date(0), new Date(0))
  for (let round = 0; round < ROUNDS; round += 1) {
    const source = bytes(2 * STEP, round)
    const created = await ask('POST', landfall.endpoint, {
      headers: { 'Upload-Length': source.length, ...BYTES },
      body: source.subarray(0, STEP),
    })
    assert.equal(created.status, 201)
    uploads.push({ source, url: created.headers.location })
    const ahead = Date.now() + (1000 * DAYS_30) / 2
    await clock.set(DAYS_30)
    await swept(landfall, ahead)
    await landfall.kill()
    if (round % 2 === 1) {
      // It starts with the wrong clock, and sweeps again.
      const file = join(landfall.dir, '.landfall', 'clock')
      const [agreed, , doubted] = (await readFile(file, 'utf8')).split(' ')
      await writeFile(file, `${agreed} 0 ${doubted}`)
      await landfall.restart()
      await swept(landfall, ahead)
      await landfall.kill()
    }
    await clock.set(0)
    await landfall.restart()
    for (const { url } of uploads) {
      const told = await ask('HEAD', url)
      assert.equal(told.status, 200)
      assert.equal(Number(told.headers['upload-offset']), STEP)
    }
    const told = await ask('HEAD', headers.location)
    assert.equal(told.status, 200)
    assert.equal(Number(told.headers['upload-offset']), STEP)
  }
  for (const { source, url } of uploads) {
    const { status } = await ask('PATCH', url, { headers: { 'Upload-Offset': STEP, ...BYTES }, body: source.subarray(STEP) })
    assert.equal(status, 204)
    assert.ok((await readFile(landfall.pathOf(url))).equals(source))
  }
  assert.ok((await readFile(landfall.pathOf(headers.location))).equals(finished.subarray(0, STEP / 2)))
})
