// Programs of a test: started on a free port, stopped when the test ends.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { answers, find, freePorts } from '../../nodes/lib/services.js'

const START_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 10_000

// No program may outlive this process, even if a test fails.
const running = new Set()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')

/** A program in an environment created by `scripts/install-test-deps hooks`. */
export function python(name = 'python', environment = 'hooks') {
  return find(name, join(cache, 'landfall-tests', environment, 'bin'))
}

/** A free port; another program may take it before it is used, which then fails to start. */
export async function freePort() {
  const [port] = await freePorts(1)
  return port
}

/** Starts a server program until test `t` ends. Returns its output lines. */
export async function serve(t, port, program, args, options = {}) {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)
  child.once('exit', () => running.delete(child))
  const gone = once(child, 'exit')
  const lines = []
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => lines.push(line))
  }
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    const late = sleep(STOP_TIMEOUT_MS, null, { ref: false })
    if ((await Promise.race([gone, late])) === null) child.kill('SIGKILL')
    await gone
  })
  const deadline = performance.now() + START_TIMEOUT_MS
  while (!(await answers(port))) {
    if (child.exitCode !== null || performance.now() > deadline) {
      throw new Error(`${program} ${args.join(' ')} did not serve:\n${lines.join('\n')}`)
    }
    await sleep(20)
  }
  return lines
}

/** Runs a program with `input` to its end; returns its exit code and output. */
export async function run(program, args, { input = '', ...options } = {}) {
  const child = spawn(program, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
  // A program may end without reading all input.
  child.stdin.on('error', () => {}).end(input)
  running.add(child)
  child.once('exit', () => running.delete(child))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}
