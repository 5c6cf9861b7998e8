// The S3 service as browsers know it: a proxy before it that remembers what passed, and lets some requests
// fail or wait.

import { once } from 'node:events'
import { createServer, request as ask } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { MIB } from '../../clients/lib/source.js'
import { until } from '../../clients/lib/tus.js'

// A browser shows a page the answer of another origin only with this.
const READABLE = { 'Access-Control-Allow-Origin': '*', Connection: 'close' }

const LARGEST_PART = 8 * MIB

/** What passes between browsers and the service of `place`. */
export class Front {
  /** Every request that was answered or given up, in the order in which it came. */
  requests = []
  #rules = []
  #server
  #scheme

  constructor(place) {
    this.target = new URL(place.endpoint)
  }

  /** Starts one that ends with test `t`; with a certificate it speaks TLS. */
  static async start(t, place, tls) {
    const front = new Front(place)
    const pass = (request, response) => front.#pass(request, response)
    front.#server = tls ? createSecureServer(tls, pass) : createServer(pass)
    front.#scheme = tls ? 'https' : 'http'
    front.#server.listen(0, '127.0.0.1')
    await once(front.#server, 'listening')
    t.after(() => {
      front.#server.closeAllConnections()
      front.#server.close()
    })
    return front
  }

  get endpoint() {
    return `${this.#scheme}://127.0.0.1:${this.#server.address().port}`
  }

  /** Forgets what it saw, and lets everything pass again. */
  reset() {
    this.requests = []
    for (const { release } of this.#rules) release?.()
    this.#rules = []
  }

  /** PUTs of parts with this number, or of all parts. */
  parts(number) {
    return this.requests.filter(({ method, part }) => method === 'PUT' && part && (!number || part === number))
  }

  /** Numbers of parts that were stored, each once. */
  stored() {
    return [...new Set(this.parts().filter(({ status }) => status === 200).map(({ part }) => part))]
  }

  /** The next `times` PUTs of part `part` get `status`, and the service never sees them. */
  fail(part, status, times = 1) {
    this.#rules.push({ times, applies: (one) => one.method === 'PUT' && one.part === part, status })
  }

  /** PUTs of parts from `part` on wait until `release` of what this gives is called. */
  hold(part) {
    const rule = { times: Infinity, applies: (one) => one.method === 'PUT' && one.part >= part, waiting: 0 }
    rule.gate = new Promise((resolve) => {
      rule.release = () => {
        rule.times = 0
        resolve()
      }
    })
    /** Waits until one is held. */
    rule.reached = () => until(() => rule.waiting > 0)
    this.#rules.push(rule)
    return rule
  }

  async #pass(request, response) {
    const url = new URL(request.url, this.target)
    const one = {
      method: request.method,
      path: decodeURIComponent(url.pathname),
      query: url.searchParams,
      part: Number(url.searchParams.get('partNumber')) || undefined,
      headers: request.headers,
    }
    this.requests.push(one)
    request.on('error', () => {})
    response.on('error', () => {})
    response.on('close', () => {
      one.gone = true
    })
    const rule = this.#rules.find(({ times, applies }) => times > 0 && applies(one))
    if (rule?.status) {
      rule.times -= 1
      one.status = rule.status
      // All of it is read: a browser that still sends takes an early answer for a broken connection.
      await finished(request.resume())
      response.writeHead(rule.status, READABLE).end()
      return
    }
    let body = request
    if (rule?.gate) {
      rule.waiting += 1
      // Read meanwhile: it wouldn't be seen otherwise that the browser gives it up.
      body = request.pipe(new PassThrough({ highWaterMark: LARGEST_PART }))
      await Promise.race([rule.gate, once(response, 'close')])
      if (response.destroyed) return
    }
    const { hostname, port } = this.target
    // The host stays as the browser has it: it is signed.
    const upstream = ask({ hostname, port, method: request.method, path: request.url, headers: request.headers })
    upstream.on('response', (answer) => {
      one.status = answer.statusCode
      response.writeHead(answer.statusCode, answer.rawHeaders)
      answer.on('error', () => response.destroy())
      answer.pipe(response)
    })
    upstream.on('error', () => {
      // The service may have answered and closed before it had read all.
      if (!response.headersSent) response.destroy()
    })
    response.on('close', () => upstream.destroy())
    body.pipe(upstream)
  }
}
