// An application that receives HTTP hooks and records them.

import { once } from 'node:events'
import { createServer } from 'node:http'

import { freePorts } from '../../nodes/lib/services.js'

/** Maximum body size; Landfall's bodies are a few kilobytes. */
const MAX_BODY = 1024 * 1024

async function bodyOf(request) {
  const chunks = []
  let size = 0
  for await (const chunk of request) {
    size += chunk.length
    if (size > MAX_BODY) throw new Error('the body of a hook is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** A reaction without a response. */
export const CUT = Symbol('the connection is cut')

/**
 * An HTTP endpoint for hooks. `answer(delivery)` chooses each response: an object is sent as JSON,
 * `{ status, headers, body }` inside `raw(…)` unchanged, `CUT` closes the connection, and
 * undefined is an empty 204.
 */
export class Receiver {
  #server
  #answer

  constructor(answer) {
    this.#answer = answer
    /** All requests in order. */
    this.deliveries = []
    /** Responses after which an event must be retried. */
    this.failures = 0
  }

  /** Starts an endpoint for the duration of test `t`. */
  static async start(t, answer = () => {}) {
    const receiver = new Receiver(answer)
    await receiver.listen()
    t.after(() => receiver.close())
    return receiver
  }

  get url() {
    return `http://127.0.0.1:${this.port}/hooks?from=landfall`
  }

  async listen() {
    // Fail at once: otherwise the request would time out and hide the reason.
    this.#server = createServer((request, response) => {
      this.#take(request, response).catch((error) => response.destroy(error))
    })
    this.#server.keepAliveTimeout = 30_000
    // The system does not reassign the port meanwhile.
    this.port ??= (await freePorts(1))[0]
    this.#server.listen(this.port, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  /** Stops listening, like an application during a deployment; `listen` resumes. */
  async close() {
    if (!this.#server?.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  async #take(request, response) {
    const body = await bodyOf(request)
    const delivery = {
      at: performance.now(),
      hook: request.headers['hook-name'],
      id: request.headers['webhook-id'],
      sequence: Number(request.headers['landfall-sequence']),
      url: request.url,
      headers: request.headers,
      body: body.toString(),
      message: JSON.parse(body.toString()),
    }
    this.deliveries.push(delivery)
    const answer = await this.#answer(delivery)
    if (answer === CUT) {
      this.failures += 1
      response.destroy()
    } else if (answer instanceof Raw) {
      if (answer.status >= 500 || answer.status === 429) this.failures += 1
      response.writeHead(answer.status, answer.headers).end(answer.body)
    } else if (answer === undefined) {
      response.writeHead(204).end()
    } else {
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer))
    }
  }

  /** Returns the deliveries of one hook. */
  of(hook) {
    return this.deliveries.filter((delivery) => delivery.hook === hook)
  }
}

class Raw {
  constructor(status, headers, body) {
    this.status = status
    this.headers = headers
    this.body = body
  }
}

/** A response that is sent unchanged. */
export function raw(status, body = '', headers = { 'Content-Type': 'text/plain; charset=utf-8' }) {
  return new Raw(status, headers, body)
}
