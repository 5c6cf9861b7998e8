// Rolling upgrades of the nodes, and failures of Redis.

import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MIB } from '../clients/lib/source.js'
import { during, variety } from './lib/load.js'
import { Fleet } from './lib/node.js'
import { Redis, startGarage } from './lib/services.js'

test('a rolling restart loses no acknowledged byte', { timeout: 90_000 }, async (t) => {
  const place = await startGarage(t)
  const redis = await Redis.start(t)
  const fleet = await Fleet.start(t, place, 3, ['-lease', redis.url])
  fleet.balancer.bytesPerSecond = 16 * MIB
  await during(fleet, variety(20), async () => {
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
  await during(fleet, variety(20), async () => {
    // Once for less than the lifetime of a lease, once for longer.
    for (const gone of [500, 4_500]) {
      await sleep(1_500)
      await redis.kill()
      await sleep(gone)
      await redis.restart()
    }
    await sleep(500)
  })
})
