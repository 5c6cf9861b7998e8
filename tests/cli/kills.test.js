// kill -9 of the program, and of the server, many times during one upload.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { appendFileSync, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Landfall } from '../clients/lib/landfall.js'
import { FaultProxy } from '../clients/lib/proxy.js'
import { MIB, bytes, randomNumbers, tempDir } from '../clients/lib/source.js'
import { start } from './lib/program.js'

const KILLS = process.env.LANDFALL_LONG ? 200 : 8
/** The mean number of bytes between two kills. */
const BYTES_PER_KILL = 8 * MIB
const SIZE = KILLS * BYTES_PER_KILL
/**
 * The part of the file that may be sent twice, beside what a killed server had not read from its socket: what it had read
 * and not yet written.
 */
const MAX_SENT_TWICE = 0.02
/** The kernel acknowledges two segments of the loopback at the latest: the sender counts them, although they are read. */
const UNACKNOWLEDGED = 128 * 1024
const RATE = process.env.LANDFALL_KILLS_RATE ?? '12MiB'

/** A file of `SIZE` bytes in the folder `home`, with its digest. */
async function prepare(t) {
  const home = await tempDir(t)
  const hash = createHash('sha256')
  const file = await open(join(home, 'a.bin'), 'w')
  for (let at = 0; at < SIZE; at += MIB) {
    const block = bytes(MIB, at)
    hash.update(block)
    await file.write(block)
  }
  await file.close()
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const args = ['upload', 'a.bin', proxy.endpoint, '--limit', RATE]
  return { home, digest: hash.digest('hex'), landfall, proxy, args }
}

/**
 * Waits for a random number of bytes and a random time. The last bytes are left, so that the upload lasts until the
 * last kill.
 */
async function untilRandomMoment(random, proxy, kills) {
  const left = Math.max(0, SIZE - BYTES_PER_KILL - proxy.passed)
  const wanted = (random() * 2 * left) / (KILLS - kills)
  await proxy.whenPassed(1 + Math.floor(Math.min(wanted, left)))
  await sleep(random() * 10)
}

/** Bytes between the proxy and the server on `port` that the server has not read: no server can keep those. */
function unreadBytes(port, proxy) {
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  let unread = 0
  for (const line of readFileSync('/proc/net/tcp', 'ascii').trim().split('\n').slice(1)) {
    const [, local, remote, , queues] = line.trim().split(/\s+/)
    const [sending, received] = queues.split(':').map((queue) => Number.parseInt(queue, 16))
    if (local.endsWith(end)) unread += received
    if (remote.endsWith(end)) unread += Math.max(0, sending - UNACKNOWLEDGED)
  }
  for (const { upstream } of proxy.links) unread += upstream.writableLength
  return unread
}

function report(t, kills, proxy, unread = 0) {
  if (process.env.KILLS_FILE) appendFileSync(process.env.KILLS_FILE, `${kills}\n`)
  const twice = (proxy.passed - unread - SIZE) / SIZE
  t.diagnostic(`${kills} kills; ${(twice * 100).toFixed(2)} % of ${SIZE / MIB} MiB were sent twice, and ${unread} bytes were not read`)
  assert.equal(kills, KILLS)
  assert.ok(twice <= MAX_SENT_TWICE, `${proxy.passed} bytes were sent for ${SIZE}, of which ${unread} were not read`)
}

test(`${KILLS} times kill -9 of the program`, { timeout: 900_000 }, async (t) => {
  const random = randomNumbers(t)
  const { home, digest, landfall, proxy, args } = await prepare(t)
  for (let kills = 0; kills < KILLS; kills += 1) {
    const killed = start(home, args)
    await untilRandomMoment(random, proxy, kills)
    killed.kill('SIGKILL')
    const { code, stderr } = await killed.ended()
    assert.equal(code, null, `ended before kill ${kills + 1}: ${stderr}`)
  }
  const { code, completed, stderr } = await start(home, args).ended()
  assert.equal(code, 0, stderr)
  assert.ok(completed.resumed_from > 0)
  assert.equal(await landfall.sha256(completed.url), digest)
  report(t, KILLS, proxy)
})

test(`${KILLS} times kill -9 of the server`, { timeout: 900_000 }, async (t) => {
  const random = randomNumbers(t)
  const { home, digest, landfall, proxy, args } = await prepare(t)
  const upload = start(home, args)
  let hasEnded = false
  const ended = upload.ended().finally(() => (hasEnded = true))
  let kills = 0
  let unread = 0
  while (kills < KILLS) {
    await Promise.race([untilRandomMoment(random, proxy, kills), ended])
    if (hasEnded) break
    let passed
    await landfall.kill(() => {
      unread += unreadBytes(landfall.port, proxy)
      passed = proxy.passed
    })
    await sleep(random() * 100)
    // Its sockets are closed later.
    unread += proxy.passed - passed
    await landfall.restart()
    kills += 1
  }
  const { code, completed, stderr } = await ended
  assert.equal(code, 0, stderr)
  assert.equal(await landfall.sha256(completed.url), digest)
  report(t, kills, proxy, unread)
})
