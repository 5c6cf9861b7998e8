// What belongs to running nodes: new versions come, and Redis goes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MIB } from '../clients/lib/source.js'
import { assertArrived, assertCalm, uploadMany, variety } from './lib/load.js'
import { Fleet } from './lib/node.js'
import { Redis, startGarage, startMoto } from './lib/services.js'

/** Runs `happen` while uploads are on their way, and checks them afterwards. */
async function during(fleet, uploads, happen) {
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

test('a rolling restart loses no acknowledged byte', { timeout: 90_000 }, async (t) => {
  const place = await startGarage(t)
  const redis = await Redis.start(t)
  const fleet = await Fleet.start(t, place, 3, ['-lease', redis.url])
  fleet.balancer.bytesPerSecond = 16 * MIB
  await during(fleet, variety(26), async () => {
    for (const node of fleet.nodes) {
      await sleep(1_000)
      await node.stop()
      await node.start()
    }
  })
})

test('Redis is lost and comes back empty', { timeout: 90_000 }, async (t) => {
  const place = await startGarage(t)
  const redis = await Redis.start(t)
  const fleet = await Fleet.start(t, place, 3, ['-lease', redis.url, '-lease-ttl', '3s'])
  fleet.balancer.bytesPerSecond = 16 * MIB
  await during(fleet, variety(26), async () => {
    // Once for less than a lease lives, once for longer.
    for (const gone of [500, 4_500]) {
      await sleep(1_500)
      await redis.kill()
      await sleep(gone)
      await redis.restart()
    }
    await sleep(500)
  })
})

test('two nodes share a bucket and nothing else', { timeout: 90_000 }, async (t) => {
  const place = await startMoto(t)
  const fleet = await Fleet.start(t, place, 2, ['-lease', 'store', '-lease-ttl', '3s'])
  fleet.balancer.bytesPerSecond = 10 * MIB
  await during(fleet, variety(16, 12 * MIB), async () => {
    for (const node of [...fleet.nodes, fleet.nodes[0]]) {
      await sleep(1_000)
      await node.kill()
      await sleep(300)
      await node.start()
    }
  })
})
