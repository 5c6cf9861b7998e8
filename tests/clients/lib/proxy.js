// A TCP proxy that slows and breaks connections as networks do.

import { once } from 'node:events'
import { createServer, connect } from 'node:net'

/**
 * What can go wrong with a connection. Each is a pair of things done to the two sides.
 *
 * - `reset`: both sides see a TCP reset.
 * - `close`: both sides see the other one leave in good order.
 * - `half-open`: the client sees a reset, while the server hears nothing any more and must
 *   believe that the client is still there: a phone that changed networks.
 * - `silence`: nothing passes any more, and neither side is told.
 */
const FAULTS = new Set(['reset', 'close', 'half-open', 'silence'])

/** A connection of a client and the one opened for it to the server. */
class Link {
  constructor(proxy, client) {
    this.proxy = proxy
    this.client = client
    this.upstream = connect(proxy.targetPort, '127.0.0.1')
    this.dead = false
    // Errors of one side end the other; the error itself is nothing to a proxy.
    for (const [side, other] of [
      [this.client, this.upstream],
      [this.upstream, this.client],
    ]) {
      side.setNoDelay(true)
      side.on('error', () => {})
      side.on('close', () => {
        if (!this.dead) other.destroy()
        if (this.client.destroyed && this.upstream.destroyed) proxy.links.delete(this)
      })
    }
    this.client.on('data', (chunk) => this.#toServer(chunk))
    this.client.on('end', () => {
      if (!this.dead) this.upstream.end()
    })
    this.upstream.on('data', (chunk) => this.#toClient(chunk))
    this.upstream.on('end', () => {
      if (!this.dead) this.client.end()
    })
  }

  #toServer(chunk) {
    if (this.dead) return
    const { proxy } = this
    const fault = proxy.faultWithin(chunk.length)
    const passed = fault ? chunk.subarray(0, fault.left) : chunk
    proxy.count(passed.length)
    const more = passed.length === 0 || this.upstream.write(passed)
    if (fault) {
      // The bytes before the fault must arrive, so the fault waits until they are sent.
      this.upstream.write('', () => this.fail(fault.kind))
      return
    }
    const pause = proxy.bytesPerSecond === Infinity ? 0 : (chunk.length / proxy.bytesPerSecond) * 1000
    if (!more || pause > 0) {
      this.client.pause()
      const drained = more ? Promise.resolve() : once(this.upstream, 'drain').catch(() => {})
      setTimeout(() => drained.then(() => this.client.resume()), pause)
    }
  }

  #toClient(chunk) {
    if (this.dead) return
    if (this.proxy.takeLostAnswer()) {
      this.fail('reset')
      return
    }
    if (!this.client.write(chunk)) {
      this.upstream.pause()
      this.client.once('drain', () => this.upstream.resume())
    }
  }

  fail(kind) {
    if (this.dead) return
    this.dead = true
    this.proxy.faults += 1
    switch (kind) {
      case 'reset':
        this.client.resetAndDestroy()
        this.upstream.resetAndDestroy()
        break
      case 'close':
        this.client.destroy()
        this.upstream.end()
        break
      case 'half-open':
        this.client.resetAndDestroy()
        this.upstream.resume()
        break
      case 'silence':
        this.client.resume()
        this.upstream.resume()
        break
    }
  }
}

/** The proxy; one per server under test. */
export class FaultProxy {
  #server
  #planned = null
  #next = () => null
  #watch = null
  #lostAnswers = []

  constructor(targetPort) {
    this.targetPort = targetPort
    this.links = new Set()
    /** Bytes that clients sent through, heads of requests included. */
    this.passed = 0
    /** Faults that have happened. */
    this.faults = 0
    /** Limit for each connection, towards the server. */
    this.bytesPerSecond = Infinity
    /** While false, new connections are reset at once. */
    this.reachable = true
  }

  /** Starts a proxy before `landfall` that goes away when test `t` ends. */
  static async start(t, landfall) {
    const proxy = new FaultProxy(landfall.port)
    proxy.#server = createServer({ allowHalfOpen: true }, (client) => {
      if (!proxy.reachable) {
        client.on('error', () => {})
        client.resetAndDestroy()
        return
      }
      proxy.links.add(new Link(proxy, client))
    })
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    const { port } = proxy.#server.address()
    const url = new URL(landfall.endpoint)
    url.port = String(port)
    /** The creation URL through this proxy. */
    proxy.endpoint = url.href
    t.after(() => proxy.close())
    return proxy
  }

  async close() {
    for (const link of this.links) {
      link.client.destroy()
      link.upstream.destroy()
    }
    this.#server.close()
    await once(this.#server, 'close')
  }

  /** Causes `kind` on the connection that carries the byte `bytes` from now. */
  failAfter(bytes, kind) {
    if (!FAULTS.has(kind)) throw new Error(`unknown fault ${kind}`)
    this.#planned = { left: bytes, kind }
  }

  /**
   * Lets faults happen one after another: `next()` gives `{ bytes, kind }` of each, counted from
   * the one before, and null after the last one.
   */
  failEach(next) {
    this.#next = next
    this.#plan()
  }

  #plan() {
    const fault = this.#next()
    if (fault) this.failAfter(fault.bytes, fault.kind)
  }

  /** Causes `kind` at once on every open connection. */
  failNow(kind) {
    if (!FAULTS.has(kind)) throw new Error(`unknown fault ${kind}`)
    for (const link of this.links) link.fail(kind)
  }

  /** Resolves when clients have sent `bytes` more. */
  whenPassed(bytes) {
    return new Promise((resolve) => {
      this.#watch = { at: this.passed + bytes, resolve }
    })
  }

  /**
   * Swallows the first answer that comes once `bytes` more have gone to the server, and
   * resets its connection: the server did the work, and the client never hears of it.
   */
  loseAnswerAfter(bytes) {
    this.#lostAnswers.push(this.passed + bytes)
  }

  /** For a link: the planned fault, if it lies within the next `length` bytes. */
  faultWithin(length) {
    const fault = this.#planned
    if (!fault) return null
    if (fault.left > length) {
      fault.left -= length
      return null
    }
    this.#planned = null
    this.#plan()
    return fault
  }

  /** For a link: `length` bytes went to the server. */
  count(length) {
    this.passed += length
    if (this.#watch && this.passed >= this.#watch.at) {
      const { resolve } = this.#watch
      this.#watch = null
      resolve()
    }
  }

  /** For a link: returns whether the arriving response must be lost. */
  takeLostAnswer() {
    if (this.#lostAnswers.length === 0 || this.passed < this.#lostAnswers[0]) return false
    this.#lostAnswers.shift()
    return true
  }
}
