// Runs the landfall-cli binary of $LANDFALL_CLI with a separate home directory.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { createInterface } from 'node:readline'
import { resolve } from 'node:path'

const running = new Set()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

function binary() {
  const path = process.env.LANDFALL_CLI
  if (!path) throw new Error('LANDFALL_CLI must name the landfall-cli binary to test')
  accessSync(path, constants.X_OK)
  return resolve(path)
}

/** Starts the program in the folder `home` with `--json`; `input` is its standard input. */
export function start(home, args, { input } = {}) {
  const child = spawn(binary(), [...args, '--json'], {
    cwd: home,
    env: { HOME: home, PATH: process.env.PATH },
    stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  if (input) child.stdin.end(input)
  const events = []
  const watches = []
  let stderr = ''
  child.stderr.on('data', (data) => (stderr += data))
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = JSON.parse(line)
    events.push(event)
    for (const watch of watches) if (watch.matches(event)) watch.resolve()
  })
  const closed = once(child, 'close')
  return {
    events,
    kill: (signal) => child.kill(signal),
    /** Resolves at the first event that matches, or when the program has ended. */
    async reached(matches) {
      if (events.some(matches)) return
      await Promise.race([closed, new Promise((resolve) => watches.push({ matches, resolve }))])
    },
    /** Waits for the end; returns the exit code and the event of the completed transfer. */
    async ended() {
      const [code] = await closed
      return { code, stderr, events, completed: events.find((one) => one.event === 'completed') }
    },
  }
}

/** Runs the program to its end. It must succeed. */
export async function run(home, args, options) {
  const result = await start(home, args, options).ended()
  if (result.code !== 0) {
    const events = JSON.stringify(result.events.at(-2))
    throw new Error(`landfall-cli ${args.join(' ')}: exit code ${result.code}\n${result.stderr}${events}`)
  }
  return result
}
