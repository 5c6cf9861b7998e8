// Runs commands of the program besides a server.

import { setTimeout as sleep } from 'node:timers/promises'

import { run } from '../../hooks/lib/programs.js'

/** The environment without settings of landfall. */
function environment() {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('LANDFALL_')),
  )
}

/** `landfall sweep` of a store, for everything older than `ms`. */
export function sweep({ args, env }, ms) {
  const lifetimes = ['-expire-unfinished', `${ms}ms`]
  return run(process.env.LANDFALL_BIN, ['sweep', ...args, ...lifetimes], { env: { ...environment(), ...env } })
}

/** `landfall events list`: all undelivered events. */
export function events({ args, env }) {
  return run(process.env.LANDFALL_BIN, ['events', 'list', '-all', '-json', ...args], {
    env: { ...environment(), ...env },
  })
}

/** Waits until `condition()` holds; throws when it does not within `ms`. */
export async function until(condition, ms = 30_000) {
  const deadline = performance.now() + ms
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${condition}`)
    await sleep(10)
  }
}
