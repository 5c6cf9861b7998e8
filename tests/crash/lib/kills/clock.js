// Kills while the clock is wrong (libfaketime): at every other jump by an hour, and after each sweep by a clock that is
// 30 days ahead. No acknowledged byte is removed, and no event is lost or told twice.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { Landfall } from '../../../clients/lib/landfall.js'
import { bytes } from '../../../clients/lib/source.js'
import { assertDistinct, assertDeliveries, byUpload } from '../../../hooks/lib/ledger.js'
import { Receiver } from '../../../hooks/lib/receiver.js'
import { Clock } from '../clock.js'
import { sweep, until } from '../program.js'
import { append, ask, assertOffset, create } from '../request.js'
import { DAY, settingsOf } from '../stores.js'

const STEP = 50_000
const HOUR_MS = 3_600_000
/** Seconds; the server is killed at every other one. */
const JUMPS = [0, -3600, 3600, -3600, 0, 3600, 0]
const SWEEPS = ['-expire-unfinished', '7d', '-sweep-interval', '1s']

/** The clock is set an hour back and forward during uploads. */
export async function betweenJumps(t, row) {
  const clock = await Clock.create(t)
  const receiver = await Receiver.start(t)
  const hooks = ['-hooks-http', receiver.url, '-hooks-enabled-events', 'post-create,post-finish']
  const landfall = await Landfall.start(t, { args: [...hooks, ...SWEEPS, ...(await settingsOf(t, row))], env: clock.env })
  const uploads = []
  for (let n = 0; n < 3; n += 1) {
    const source = bytes(STEP * (JUMPS.length + 1), n)
    uploads.push({ source, url: await create(landfall.endpoint, source, STEP) })
  }
  let kills = 0
  for (const [n, seconds] of JUMPS.entries()) {
    await clock.set(seconds)
    // Every other time the server is killed too, and its files have times in the future.
    if (n % 2 === 1) {
      kills += 1
      await landfall.kill()
      await landfall.restart()
    }
    for (const [which, { source, url }] of uploads.entries()) {
      const what = `upload ${which} after a jump to ${seconds} s`
      const start = STEP * (n + 1)
      const { date } = await assertOffset(url, start, what)
      // A running server keeps the date of its responses until the clock has passed it.
      const skew = n % 2 === 0 ? 0 : Math.abs(new Date(date) - Date.now() - 1000 * seconds)
      assert.ok(skew < HOUR_MS / 10, `the clock is ${skew} ms from where it was set`)
      await append(url, source, start, { end: start + STEP, what })
    }
  }
  assert.equal(kills, row.kills)
  for (const { source, url } of uploads) assert.ok((await readFile(landfall.pathOf(url))).equals(source))
  const isTold = (hook) => receiver.of(hook).length >= uploads.length
  await until(() => isTold('post-create') && isTold('post-finish'))
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
}

/** The clock is 30 days ahead for a while; every third kill is of a server that has also started with it. */
export async function aheadOfSweeps(t, row) {
  const clock = await Clock.create(t)
  const landfall = await Landfall.start(t, { args: [...SWEEPS, ...(await settingsOf(t, row))], env: clock.env })
  const times = join(landfall.dir, '.landfall', 'clock')
  /** Waits until a sweep by a clock that shows at least this time has ended, and kills the server. */
  const killSwept = async (ms) => {
    await until(async () => {
      const text = await readFile(times, 'utf8').catch(() => '0 0 0')
      return Number(text.split(' ')[1]) * 1000 >= ms
    })
    await landfall.kill()
  }
  const uploads = []
  const finished = bytes(STEP, 99)
  const optimized = await create(landfall.endpoint, finished)
  // An image optimizer.
  await truncate(landfall.pathOf(optimized), STEP / 2)
  // With `none`, a short file that is older than the end of its upload is one that lost bytes with the power.
  const changed = row.durability === 'none' ? new Date(Date.now() + 1000) : new Date(0)
  await utimes(landfall.pathOf(optimized), changed, changed)
  for (let kills = 0; kills < row.kills; ) {
    const source = bytes(2 * STEP, kills)
    uploads.push({ source, url: await create(landfall.endpoint, source, STEP) })
    const ahead = Date.now() + (1000 * 30 * DAY) / 2
    await clock.set(30 * DAY)
    await killSwept(ahead)
    kills += 1
    if (kills % 3 === 2) {
      // It starts with the wrong clock, and sweeps again.
      const [agreed, , doubted] = (await readFile(times, 'utf8')).split(' ')
      await writeFile(times, `${agreed} 0 ${doubted}`)
      await landfall.restart()
      await killSwept(ahead)
      kills += 1
    }
    await clock.set(0)
    await landfall.restart()
    for (const { url } of uploads) await assertOffset(url, STEP)
    await assertOffset(optimized, STEP)
  }
  for (const { source, url } of uploads) {
    await append(url, source, STEP)
    assert.ok((await readFile(landfall.pathOf(url))).equals(source))
  }
  assert.ok((await readFile(landfall.pathOf(optimized))).equals(finished.subarray(0, STEP / 2)))
}
