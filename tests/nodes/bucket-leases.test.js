// Two nodes that share only a bucket, with leases based on conditional writes.

import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MIB } from '../clients/lib/source.js'
import { during, variety } from './lib/load.js'
import { Fleet } from './lib/node.js'
import { startMoto } from './lib/services.js'

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
