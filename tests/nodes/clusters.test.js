// Clusters of real services, of which one process after the other fails while uploads run: how soon everything is served
// again, that no acknowledged byte and no event is lost, and that no request is answered wrongly.

import assert from 'node:assert/strict'
import { setMaxListeners } from 'node:events'
import { appendFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomNumbers } from '../clients/lib/source.js'
import { checkUploads } from '../crash/lib/check.js'
import { Client } from '../crash/lib/client.js'
import { until } from '../crash/lib/program.js'
import { Listener } from '../grants/lib/listener.js'
import { PostgresPair } from '../grants/lib/postgres.js'
import { addKey, Caller } from '../grants/lib/queue.js'
import { uploadOf } from '../hooks/lib/ledger.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { GarageCluster, ValkeyGroup } from './lib/failover.js'
import { Fleet } from './lib/node.js'
import { PASSING, Probe } from './lib/recovery.js'

const isLong = process.env.LANDFALL_LONG === '1'
const NODES = isLong ? 10 : 4
const UPLOADS = isLong ? 2_000 : 200
/** A request of a slow client takes up to this long. */
const SLOW_MS = isLong ? 300_000 : 20_000
/** All uploads start within this time. */
const RAMP_MS = isLong ? 40_000 : 2_000
/** The time to finish everything after the last failure. */
const FINISH_MS = 240_000

/** Small uploads; a removal that is interrupted may leave a description. */
const STORE = { mostLength: 200_000, mostBody: 60_000, leavesRemains: true, isReadableUnfinished: false }

// The failures: `start(cluster, n)` gives the nodes that a probe is on, `fail` and `repair`. Recovery takes at most `limit`
// milliseconds.

const killed = (count) => ({ nodes, pick }) => {
  const first = pick(nodes.length)
  const some = Array.from({ length: count }, (_, n) => nodes[(first + n) % nodes.length])
  return {
    on: some,
    fail: () => Promise.all(some.map((node) => node.kill())),
    repair: () => Promise.all(some.map((node) => node.start())),
  }
}
const replaced = ({ nodes }, n) => {
  const node = nodes[n % nodes.length]
  return { on: [node], fail: () => node.stop(), repair: () => node.start() }
}
const lost = (service) => (cluster, n) => ({
  on: [cluster.nodes[cluster.pick(cluster.nodes.length)]],
  fail: () => cluster[service].fail(n % 3),
  repair: () => cluster[service].repair(n % 3),
})
const KILL = { name: 'a node is killed', start: killed(1), limit: 30_000 }
const KILLS = { name: 'three nodes are killed at once', start: killed(3), limit: 30_000 }
const HALF = { name: 'five nodes are killed at once', start: killed(5), limit: 30_000 }
const REPLACE = { name: 'a node is replaced (SIGTERM), one after another', start: replaced, limit: 20_000 }
const PROMOTE = { name: 'PostgreSQL dies, its replica is promoted', start: lost('postgres'), limit: 40_000 }
const SENTINEL = { name: 'Valkey dies, Sentinel promotes its replica', start: lost('valkey'), limit: 40_000 }
const STORAGE = { name: 'a node of Garage is killed', start: lost('garage'), limit: 40_000 }

/** What holds the leases, and which events there are: `[event, count, count in a long run]`. */
const CLUSTERS = [
  {
    lease: 'PostgreSQL',
    events: [[REPLACE, 1, 20], [KILL, 1, 10], [HALF, 0, 36], [PROMOTE, 1, 15], [STORAGE, 1, 7]],
  },
  {
    lease: 'Valkey',
    events: [[REPLACE, 0, 10], [KILL, 0, 10], [KILLS, 0, 10], [PROMOTE, 0, 5], [SENTINEL, 1, 15], [STORAGE, 0, 5]],
  },
]

async function start(t, { lease }, random) {
  const [garage, postgres, valkey] = await Promise.all([
    GarageCluster.start(t), PostgresPair.start(t), lease === 'Valkey' ? ValkeyGroup.start(t) : undefined,
  ])
  const receiver = await Receiver.start(t)
  const fleet = await Fleet.start(t, garage.place, NODES, [
    '--lease', valkey?.url ?? postgres.url, '--database', postgres.url, '--grants',
    '--hooks-http', receiver.url, '--hooks-enabled-events', 'post-finish', '--min-rate', '0', '--shutdown-timeout', '3s',
  ], process.env.LANDFALL_OLD_BIN)
  const pick = (count) => Math.floor(random() * count)
  return { garage, postgres, valkey, receiver, fleet, nodes: fleet.nodes, pick }
}

/** What the nodes wrote about the upload that an error names: the error alone has a status only. */
async function linesAbout({ nodes }, message) {
  const [, id] = message.match(/\/files\/([^\s+]+)/) ?? []
  // The line may follow its response.
  await sleep(1_000)
  return id === undefined ? [] : nodes.flatMap(({ log }) => log.split('\n').filter((line) => line.includes(id)))
}

/** As many uploads as there are clients run until `stop`. What a client finds wrong is in `wrong`. */
class Load {
  uploads = []
  wrong = []
  requests = 0
  #over = new AbortController()

  constructor(fleet, random, title) {
    const { signal } = this.#over
    setMaxListeners(0, signal)
    const options = {
      endpoint: () => fleet.balancer.endpoint,
      random,
      uploads: this.uploads,
      hasFailed: () => signal.aborted && performance.now() > this.deadline,
      isPassing: (status) => {
        this.requests += 1
        return PASSING.has(status)
      },
      isUndecided: true,
      duration: () => (signal.aborted ? 0 : SLOW_MS * random() ** 2),
      hurry: signal,
      delay: () => 500 + 1_000 * random(),
      store: STORE,
    }
    this.clients = Array.from({ length: UPLOADS }, async (_, n) => {
      await sleep(RAMP_MS * random())
      const client = new Client(options)
      for (let round = 0; !signal.aborted; round += 1) {
        await client.play(`${title} ${n} ${round}`).catch(async ({ message }) => this.wrong.push(message, ...await linesAbout(fleet, message)))
      }
    })
  }

  async stop() {
    this.deadline = performance.now() + FINISH_MS
    this.#over.abort()
    await Promise.all(this.clients)
  }
}

/** The events in an order that chance decides, but nodes are replaced one after another. */
function schedule(events, random) {
  const counted = events.map(([event, short, long]) => ({ event, count: isLong ? long : short }))
  const single = counted.filter(({ event }) => event !== REPLACE).flatMap(({ event, count }) => Array(count).fill(event))
  for (let n = single.length - 1; n > 0; n -= 1) {
    const other = Math.floor(random() * (n + 1))
    ;[single[n], single[other]] = [single[other], single[n]]
  }
  return [...counted.filter(({ event }) => event === REPLACE).flatMap(({ event, count }) => Array(count).fill(event)), ...single]
}

const sorted = (numbers) => numbers.toSorted((a, b) => a - b)
const seconds = (ms) => (ms / 1_000).toFixed(1)

// Only in long runs: on a slow machine with two cores their limits are too tight. LANDFALL_TEST_CLUSTERS=1 runs the short form.
for (const row of isLong || process.env.LANDFALL_TEST_CLUSTERS ? CLUSTERS : []) {
  const title = `${NODES} nodes, ${UPLOADS} uploads, leases in ${row.lease}`
  test(`${title}: processes of every kind fail`, { timeout: isLong ? 3_600_000 : 240_000 }, async (t) => {
    const random = randomNumbers(t)
    const cluster = await start(t, row, random)
    const { fleet, postgres, receiver } = cluster
    const database = ['--database', postgres.url]
    const key = await addKey({ dir: '/nonexistent' }, 'app', [], database)
    const boss = await addKey({ dir: '/nonexistent' }, 'boss', ['--admin'], database)
    const listener = await Listener.open(t, Caller.withKey(fleet.balancer.endpoint, boss), { lastId: '0' })
    const load = new Load(fleet, random, title)
    await sleep(RAMP_MS)

    const times = new Map()
    const probes = []
    const numbers = new Map()
    for (const event of schedule(row.events, random)) {
      const number = numbers.get(event) ?? 0
      numbers.set(event, number + 1)
      const { on, fail, repair } = event.start(cluster, number)
      const ids = on.map((_, n) => `probe-${probes.length + n}`)
      probes.push(...ids)
      const all = await Promise.all(on.map((node, n) => Probe.prepare(fleet, node, key, ids[n])))
      const since = performance.now()
      const failing = fail()
      const recovered = await Promise.all(all.map((probe) => probe.recovered(since)))
      await failing
      if (process.env.KILLS_FILE) appendFileSync(process.env.KILLS_FILE, '1\n'.repeat(on.length))
      await repair()
      await Promise.all(all.map((probe) => probe.close()))
      times.set(event, [...(times.get(event) ?? []), ...recovered])
      if (isLong) t.diagnostic(`${event.name}: ${recovered.map((one) => Object.values(one).map(seconds).join(' ')).join(', ')}`)
    }
    await load.stop()

    t.diagnostic('event | count | write | grant | events: seconds, median and worst')
    for (const [{ name }, all] of times) {
      const of = (what) => {
        const values = sorted(all.map((one) => one[what]))
        return `${seconds(values[Math.floor(values.length / 2)])}, ${seconds(values.at(-1))}`
      }
      t.diagnostic(`${name} | ${all.length} | ${of('write')} | ${of('grant')} | ${of('events')}`)
    }
    const ended = load.uploads.filter(({ state }) => state === 'complete' || state === 'gone')
    t.diagnostic(`${load.uploads.length} uploads, ${load.requests} responses, ${fleet.balancer.broken} broken connections`)
    for (const message of load.wrong) t.diagnostic(message)
    assert.deepEqual(load.wrong, [], 'requests that were answered wrongly')
    assert.equal(ended.length, load.uploads.length, 'every upload is at its end')

    // Every acknowledged byte is there.
    const reader = {
      ...STORE,
      read: async (url) => {
        const statuses = []
        while (statuses.length < 20) {
          const response = await fetch(url)
          if (response.ok) return Buffer.from(await response.arrayBuffer())
          statuses.push(response.status)
          // Clients repeat what passes.
          if (!PASSING.has(response.status)) break
          await sleep(500)
        }
        t.diagnostic(`GET ${url}: ${statuses}`)
        return null
      },
    }
    const slices = Array.from({ length: 8 }, (_, n) => load.uploads.filter((_, at) => at % 8 === n))
    await Promise.all(slices.map((uploads) => checkUploads({ idOf: (url) => url }, reader, uploads)))

    // No event is lost.
    const idOf = (url) => decodeURIComponent(new URL(url).pathname.split('/').at(-1))
    const untold = () => {
      const told = new Set(receiver.deliveries.map((delivery) => uploadOf(delivery).ID))
      return load.uploads.filter(({ state, url }) => state === 'complete' && !told.has(idOf(url))).map(({ url }) => url)
    }
    await until(() => untold().length === 0, 180_000).catch(() => assert.deepEqual(untold(), []))
    for (const id of probes) {
      await listener.heard(id, 'UploadCancelled')
      assert.deepEqual(listener.story(id), ['UploadCancelled'], id)
    }
    for (const [{ name, limit }, all] of times) {
      for (const one of all) {
        for (const [what, ms] of Object.entries(one)) assert.ok(ms < limit, `${name}: ${what} after ${seconds(ms)} s`)
      }
    }
  })
}
