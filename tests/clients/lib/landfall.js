// Runs the landfall binary of $LANDFALL_BIN for a test and reads what it stored.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, readFileSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from '../../nodes/lib/services.js'
import { sha256OfFile } from './source.js'

const START_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 20_000
const BASE_PATH = '/files/'

function binary() {
  const path = process.env.LANDFALL_BIN
  if (!path) {
    throw new Error('LANDFALL_BIN must name the landfall binary to test')
  }
  accessSync(path, constants.X_OK)
  return path
}

/** The environment without settings of landfall. */
function environment() {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('LANDFALL_')),
  )
}

// The server of a test must not outlive this process.
const running = new Set()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** The state of a process, as in ps. */
export const stateOf = ({ pid }) => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)[0]

/** A server with a separate directory. */
export class Landfall {
  #child
  #args
  #env
  #tracer
  #log = []

  constructor(dir, args, env, tracer) {
    this.dir = dir
    this.#args = args
    this.#env = env
    this.#tracer = tracer
  }

  /**
   * Starts a server on a free port and stops it when test `t` ends, which also checks
   * that it left in good order. `shared` is a directory of several; without it, it has its own. `env` is
   * added to its environment. `tracer` is a command in front of the program, which must stay the process that is started.
   */
  static async start(t, { args = [], shared, env = {}, tracer = [] } = {}) {
    const dir = shared ?? (await mkdtemp(join(tmpdir(), 'landfall-clients-')))
    const server = new Landfall(dir, args, env, tracer)
    t.after(async () => {
      try {
        await server.stop()
      } finally {
        if (!shared) await rm(dir, { recursive: true, force: true })
      }
    })
    // A port that stays reserved for a restart.
    const [port] = await freePorts(1)
    await server.#spawn(port)
    return server
  }

  async #spawn(port) {
    const [program, ...first] = [...this.#tracer, binary()]
    const child = spawn(
      program,
      [...first, '-host', '127.0.0.1', '-port', String(port), '-upload-dir', this.dir, ...this.#args],
      // The state of another run, or of a person's server, is not this server's.
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...environment(), XDG_STATE_HOME: join(this.dir, '.state'), ...this.#env } },
    )
    running.add(child)
    child.once('exit', () => running.delete(child))
    this.#child = child
    const started = {}
    started.promise = new Promise((resolve, reject) => Object.assign(started, { resolve, reject }))
    const timer = setTimeout(
      () => started.reject(new Error(`landfall did not start in ${START_TIMEOUT_MS} ms`)),
      START_TIMEOUT_MS,
    )
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        this.#log.push(line)
        const match = line.match(/You can now upload files to: (http\S+)/)
        if (match) started.resolve(new URL(match[1]))
      })
    }
    child.once('error', started.reject)
    child.once('close', () => started.reject(new Error('landfall ended before it served')))

    let url
    try {
      url = await started.promise
    } catch (error) {
      throw new Error(`${error.message}; it wrote:\n${this.log}`)
    } finally {
      clearTimeout(timer)
    }
    this.port = Number(url.port)
    /** The creation URL. */
    this.endpoint = url.href
  }

  /** The output of the server. */
  get log() {
    return this.#log.join('\n')
  }

  /**
   * Kills the server, as a power loss would, and waits for its exit. `atLast` is called when the server has been
   * stopped, before it is killed.
   */
  async kill(atLast) {
    const child = this.#child
    const gone = once(child, 'exit')
    if (atLast) {
      child.kill('SIGSTOP')
      while (stateOf(child) !== 'T') continue
      atLast()
    }
    child.kill('SIGKILL')
    await gone
  }

  /** Stops the server where it is, as a paused machine does. */
  async freeze() {
    this.#child.kill('SIGSTOP')
    while (stateOf(this.#child) !== 'T') await sleep(1)
  }

  /** The server goes on. */
  thaw() {
    this.#child.kill('SIGCONT')
  }

  /** Starts the killed server again on the same port and directory. */
  async restart() {
    await this.#spawn(this.port)
  }

  /** Stops the server with SIGTERM; fails unless it exits with 0 in time. */
  async stop() {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    const result = await Promise.race([gone, sleep(STOP_TIMEOUT_MS, null, { ref: false })])
    if (result === null) {
      child.kill('SIGKILL')
      throw new Error(`landfall did not stop within ${STOP_TIMEOUT_MS} ms:\n${this.log}`)
    }
    const [code, signal] = result
    if (code !== 0) {
      throw new Error(`landfall ended with code ${code}, signal ${signal}:\n${this.log}`)
    }
  }

  /** Id of the upload at `url`, whatever host the URL names. */
  idOf(url) {
    const { pathname } = new URL(url, this.endpoint)
    if (!pathname.startsWith(BASE_PATH)) throw new Error(`${url} is not below ${BASE_PATH}`)
    return decodeURIComponent(pathname.slice(BASE_PATH.length))
  }

  /** File that holds the bytes of the upload at `url`. */
  pathOf(url) {
    return join(this.dir, this.idOf(url))
  }

  /** The parsed `.info` file of the upload at `url`. */
  async info(url) {
    return JSON.parse(await readFile(`${this.pathOf(url)}.info`, 'utf8'))
  }

  /** SHA-256 of the stored bytes of the upload at `url`, in hexadecimal. */
  sha256(url) {
    return sha256OfFile(this.pathOf(url))
  }

  /** Bytes stored so far for the upload at `url`. */
  async storedBytes(url) {
    return (await stat(this.pathOf(url))).size
  }

  /** The `.info` files of all uploads in the directory, parsed. */
  async allInfos() {
    const names = (await readdir(this.dir)).filter((name) => name.endsWith('.info'))
    const texts = await Promise.all(names.map(async (name) => {
      try {
        return await readFile(join(this.dir, name), 'utf8')
      } catch (error) {
        // Removed meanwhile.
        if (error.code === 'ENOENT') return ''
        throw error
      }
    }))
    // A killed creation may have left an empty file until the next sweep.
    return texts.filter((text) => text !== '').map((text) => JSON.parse(text))
  }

  /** HEAD of the upload at `url`, sent to the server itself rather than through a proxy. */
  async head(url) {
    const { pathname } = new URL(url, this.endpoint)
    const response = await fetch(new URL(pathname, this.endpoint), {
      method: 'HEAD',
      headers: { 'Tus-Resumable': '1.0.0' },
    })
    return {
      status: response.status,
      offset: Number(response.headers.get('Upload-Offset') ?? Number.NaN),
      length: Number(response.headers.get('Upload-Length') ?? Number.NaN),
      headers: response.headers,
    }
  }
}
