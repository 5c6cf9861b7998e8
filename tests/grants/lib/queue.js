// landfall with grants, and the upload queue as a caller sees it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Landfall } from '../../clients/lib/landfall.js'
import { run } from '../../hooks/lib/programs.js'

/** Starts landfall with `--require-grant`. */
export function withGrants(t, args = [], options = {}) {
  return Landfall.start(t, { args: ['--require-grant', ...args], ...options })
}

/** Runs `landfall keys …`, or another `command`, for a server; returns its exit code and output. */
export function keys(landfall, args, database = [], command = 'keys') {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('LANDFALL_')),
  )
  const where = ['-upload-dir', landfall.dir, ...database]
  return run(process.env.LANDFALL_BIN, [command, ...args, ...where], { env })
}

export const KEY = /\blfk_[\w-]{43}(?![\w-])/

/** Makes a key by `landfall keys add` and gives it. */
export async function addKey(landfall, name, args = [], database) {
  const made = await keys(landfall, ['add', name, ...args], database)
  assert.equal(made.code, 0, `${made.stdout}\n${made.stderr}`)
  const [key] = KEY.exec(made.stdout) ?? []
  assert.ok(key, `no key in: ${made.stdout}`)
  return key
}

/** A client of the grant API at `endpoint`. */
export class Caller {
  constructor(endpoint, headers = {}, path = '/uploadjobs') {
    this.url = new URL(path, endpoint).href
    this.headers = headers
  }

  static withKey(endpoint, key) {
    return new Caller(endpoint, { Authorization: `Bearer ${key}` })
  }

  async ask(method, path = '', body = undefined, headers = {}) {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        ...this.headers,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    })
    const text = await response.text()
    const type = response.headers.get('Content-Type') ?? ''
    return {
      status: response.status,
      headers: response.headers,
      text,
      type,
      body: type.includes('json') ? JSON.parse(text) : undefined,
    }
  }

  /** Asks for leave; anything but a grant is an error. */
  async grant(ask) {
    const answer = await this.ask('POST', '', { filename: 'a.bin', ...ask })
    assert.ok(answer.status === 201 || answer.status === 200, `${answer.status} ${answer.text}`)
    return answer.body
  }

  /** One job, which there must be. */
  async job(id) {
    const answer = await this.ask('GET', `/${id}`)
    assert.equal(answer.status, 200, answer.text)
    return answer.body
  }

  cancel(id) {
    return this.ask('DELETE', `/${id}`)
  }

  /** All jobs, page by page. */
  async all(query = '') {
    const jobs = []
    let next = `${this.url}?limit=50${query}`
    while (next) {
      const response = await fetch(next, { headers: this.headers })
      assert.equal(response.status, 200)
      jobs.push(...(await response.json()))
      const [, more] = /<([^>]*)>;\s*rel="?next"?/.exec(response.headers.get('Link') ?? '') ?? []
      next = more && new URL(more, this.url).href
    }
    return jobs
  }
}

/** The state directory of a server. */
export const stateDir = (landfall) => join(landfall.dir, '.landfall')
