// A landfall process ($LANDFALL_BIN) on a shared bucket.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Balancer } from './balancer.js'
import { freePorts } from './services.js'

const START_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 20_000
const LOG_LINES = 2_000

// The nodes of a test must not outlive this process.
const running = new Set()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Starts landfall with settings for `place`; everything it writes goes to `heard`. */
function landfall(place, cwd, args, heard, program = process.env.LANDFALL_BIN) {
  if (!program) throw new Error('LANDFALL_BIN must name the landfall binary to test')
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('LANDFALL_') && !name.startsWith('AWS_'),
  )
  const child = spawn(
    program,
    [...args, '-s3-bucket', place.bucket, '-s3-endpoint', place.endpoint],
    {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...Object.fromEntries(inherited),
        AWS_REGION: place.region,
        AWS_ACCESS_KEY_ID: place.accessKey,
        AWS_SECRET_ACCESS_KEY: place.secretKey,
      },
    },
  )
  running.add(child)
  child.once('exit', () => running.delete(child))
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', heard)
  }
  return child
}

/** A server that can be killed and started again on its port. */
export class Node {
  #place
  #cwd
  #args
  #child
  #log = []

  /** What the next `start` runs, if not $LANDFALL_BIN. */
  program

  constructor(place, cwd, port, args) {
    this.#place = place
    this.#cwd = cwd
    this.port = port
    this.#args = ['-host', '127.0.0.1', '-port', String(port), ...args]
  }

  async start() {
    let served
    const serving = new Promise((resolve) => {
      served = resolve
    })
    const child = landfall(this.#place, this.#cwd, this.#args, (line) => {
      this.#log.push(line)
      if (this.#log.length > LOG_LINES) this.#log.shift()
      if (line.includes('You can now upload files to: ')) served(true)
    }, this.program)
    this.#child = child
    const ended = once(child, 'close').then(() => false)
    const timedOut = sleep(START_TIMEOUT_MS, false, { ref: false })
    if (!(await Promise.race([serving, ended, timedOut]))) {
      child.kill('SIGKILL')
      throw new Error(`the node on ${this.port} did not start; it wrote:\n${this.log}`)
    }
  }

  /** Returns its last output. */
  get log() {
    return this.#log.join('\n')
  }

  get isRunning() {
    return this.#child?.exitCode === null && this.#child.signalCode === null
  }

  /** Stops it where it is, as a paused machine does. */
  async freeze() {
    this.#child.kill('SIGSTOP')
    const state = () => readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1').split(') ').at(-1)[0]
    while (state() !== 'T') await sleep(1)
  }

  /** It goes on. */
  thaw() {
    this.#child.kill('SIGCONT')
  }

  /** Kills it, as a power loss would. */
  async kill() {
    if (!this.isRunning) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }

  /** Stops it with SIGTERM; fails unless it exits with 0 in time. */
  async stop() {
    if (!this.isRunning) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const result = await Promise.race([gone, sleep(STOP_TIMEOUT_MS, null, { ref: false })])
    if (result === null) {
      await this.kill()
      throw new Error(`the node on ${this.port} did not stop:\n${this.log}`)
    }
    const [code, signal] = result
    if (code !== 0) {
      throw new Error(`the node on ${this.port} ended by ${signal ?? code}:\n${this.log}`)
    }
  }

  /** The creation URL. */
  get endpoint() {
    return `http://127.0.0.1:${this.port}/files/`
  }

  /** Returns the URL of an upload on this node. */
  own(url) {
    const { pathname } = new URL(url)
    return `http://127.0.0.1:${this.port}${pathname}`
  }
}

/** Several nodes with the same settings behind a balancer. They first run `program`, if it is given. */
export class Fleet {
  #place
  #args
  #cwd

  static async start(t, place, count, args, program) {
    const fleet = new Fleet()
    fleet.#place = place
    fleet.#args = args
    // The directory for files that a node should not write.
    fleet.#cwd = await mkdtemp(join(tmpdir(), 'landfall-node-'))
    const ports = await freePorts(count)
    fleet.nodes = ports.map((port, n) => new Node(place, fleet.#cwd, port, [...args, '-node-name', `node-${n}`]))
    t.after(async () => {
      try {
        await Promise.all(fleet.nodes.map((node) => node.stop()))
      } finally {
        await rm(fleet.#cwd, { recursive: true, force: true })
      }
    })
    for (const node of fleet.nodes) node.program = program
    await Promise.all(fleet.nodes.map((node) => node.start()))
    for (const node of fleet.nodes) node.program = undefined
    fleet.balancer = await Balancer.start(t, ports)
    return fleet
  }

  /** Runs `landfall sweep` with further settings; returns its output. */
  async sweep(args = []) {
    const lines = []
    const child = landfall(this.#place, this.#cwd, ['sweep', ...this.#args, ...args], (line) =>
      lines.push(line),
    )
    const [code] = await once(child, 'close')
    const said = lines.join('\n')
    if (code !== 0) throw new Error(`landfall sweep ended by ${code}:\n${said}`)
    return said
  }
}
