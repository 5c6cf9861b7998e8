// kill -9 of the program: a table of store x kill point x durability, and the loop that runs it.

import { test } from 'node:test'

import { anytime } from './lib/kills/anytime.js'
import { aheadOfSweeps, betweenJumps } from './lib/kills/clock.js'
import { moved } from './lib/kills/moved.js'
import { torn } from './lib/kills/torn.js'
import { AZURE, CEPH, DAY, FILES, GARAGE, GOOGLE, HOUR, MOTO } from './lib/stores.js'

const isLong = process.env.LANDFALL_LONG === '1'

/** When processes are killed: the words of the title, the scenario, for how long a test may run and its most kills. */
const ANYTIME = { when: 'at any moment of uploads, sweeps and wrong clocks', run: anytime, seconds: 900, most: 50 }
const WRITTEN = { when: 'among unfinished uploads, whose descriptions are then torn', run: torn, seconds: 60, most: 1 }
const JUMPED = { when: 'at every other jump of the clock by an hour', run: betweenJumps, seconds: 60, most: 3 }
const SWEPT = { when: 'after each sweep by a clock 30 days ahead', run: aheadOfSweeps, seconds: 3000, most: 150 }
const HELD = { when: 'while PATCHes hold leases, and a copy of its directory goes on', run: moved, seconds: 60, most: 1 }

/**
 * A row: the store, its durability (a directory's; a bucket has its own), the kill point, how many kills there are and
 * how many in a long run. `nodes` share the store; `lease` and `events` name where those are kept if not in the store.
 * `steps` of a wrong clock, in seconds, are the store's if a row names none.
 */
const TABLE = [
  ...['none', 'complete', 'every'].flatMap((durability) => [
    { store: FILES, durability, kill: ANYTIME, kills: 12, long: 300, steps: [30 * DAY, HOUR, -40] },
    { store: FILES, durability, kill: WRITTEN, kills: 1, long: 1 },
    { store: FILES, durability, kill: JUMPED, kills: 3, long: 3 },
    { store: FILES, durability, kill: SWEPT, kills: 3, long: 150 },
    { store: FILES, durability, kill: HELD, kills: 1, long: 1 },
  ]),
  { store: FILES, kill: ANYTIME, kills: 0, long: 200, events: 'PostgreSQL' },
  { store: FILES, kill: ANYTIME, kills: 8, long: 200, nodes: 3 },
  { store: GARAGE, kill: ANYTIME, kills: 5, long: 160 },
  { store: MOTO, kill: ANYTIME, kills: 5, long: 160 },
  { store: CEPH, kill: ANYTIME, kills: 5, long: 160 },
  { store: GARAGE, kill: ANYTIME, kills: 5, long: 120, nodes: 3, lease: 'Redis', events: 'PostgreSQL' },
  { store: CEPH, kill: ANYTIME, kills: 0, long: 60, nodes: 2, lease: 'PostgreSQL' },
  { store: MOTO, kill: ANYTIME, kills: 4, long: 60, nodes: 2, lease: 'the bucket' },
  { store: GOOGLE, kill: ANYTIME, kills: 10, long: 200 },
  { store: AZURE, kill: ANYTIME, kills: 10, long: 200 },
  // After a kill, uploads go on through the other node.
  { store: GOOGLE, kill: ANYTIME, kills: 10, long: 100, nodes: 2, lease: 'the bucket' },
  { store: AZURE, kill: ANYTIME, kills: 10, long: 100, nodes: 2, lease: 'the bucket' },
]

/** What runs and where, then what is killed when: `3 nodes on Garage, leases in Redis: one is killed at ..., 5 kills`. */
function titleOf({ store, durability, kill, nodes, lease, events }) {
  const place = [
    nodes ? `${nodes} nodes on ${store.name}` : store.name,
    durability && `durability ${durability}`,
    lease && `leases in ${lease}`,
    events && `events in ${events}`,
  ]
  return `${place.filter(Boolean).join(', ')}: ${nodes ? 'one is ' : ''}killed ${kill.when}`
}

/** Instead of the numbers in the table. */
const setKills = process.env.LANDFALL_TEST_KILLS && Number(process.env.LANDFALL_TEST_KILLS)
const only = new RegExp(process.env.LANDFALL_TEST_STORES ?? '')

for (const row of TABLE) {
  const title = titleOf(row)
  if (!only.test(title)) continue
  const total = setKills ?? (isLong ? row.long : row.kills)
  const count = Math.ceil(total / row.kill.most)
  for (let number = 1; number <= count; number += 1) {
    const kills = Math.ceil(total / count)
    const timeout = row.kill.seconds * 1000
    test(`${title}, ${kills} kills (${number} of ${count})`, { timeout }, (t) => row.kill.run(t, { ...row, title, kills }))
  }
}
