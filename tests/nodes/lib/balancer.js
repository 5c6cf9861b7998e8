// A load balancer without health checks: each connection goes to the next node that accepts it.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Bytes may pass in steps of this many milliseconds. */
const TICK_MS = 20

export class Balancer {
  /** Bytes a second from clients to nodes, all connections together. */
  bytesPerSecond = Infinity
  /** Bytes that passed from clients to nodes. */
  passed = 0
  /** Connections closed by a node. */
  broken = 0
  #next = 0
  #allowance = 0
  #waiting = new Set()

  constructor(ports) {
    this.ports = ports
  }

  static async start(t, ports) {
    const balancer = new Balancer(ports)
    const sockets = new Set()
    const server = createServer({ allowHalfOpen: true }, (client) => {
      sockets.add(client.once('close', () => sockets.delete(client)))
      balancer.#serve(client)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const ticks = setInterval(() => balancer.#tick(), TICK_MS)
    t.after(async () => {
      clearInterval(ticks)
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    })
    /** The creation URL. */
    balancer.endpoint = `http://127.0.0.1:${server.address().port}/files/`
    return balancer
  }

  async #serve(client) {
    client.setNoDelay(true).on('error', () => {})
    client.pause()
    const node = await this.#reach()
    if (!node || client.destroyed) {
      node?.destroy()
      client.destroy()
      return
    }
    node.setNoDelay(true)
    node.on('error', () => {
      this.broken += 1
    })
    client.on('data', (chunk) => {
      this.passed += chunk.length
      this.#allowance -= chunk.length
      if (!node.write(chunk)) client.pause()
      if (this.#allowance <= 0 && this.bytesPerSecond !== Infinity) {
        client.pause()
        this.#waiting.add(client)
      }
    })
    node.on('drain', () => {
      if (!this.#waiting.has(client)) client.resume()
    })
    client.on('end', () => node.end())
    client.on('close', () => {
      this.#waiting.delete(client)
      node.destroy()
    })
    node.pipe(client)
    // A dead node must look dead, not like a complete response.
    node.on('close', (failed) => (failed ? client.resetAndDestroy() : client.end()))
    client.resume()
  }

  #tick() {
    if (this.bytesPerSecond === Infinity) {
      this.#allowance = 0
    } else {
      const step = (this.bytesPerSecond * TICK_MS) / 1000
      this.#allowance = Math.min(this.#allowance + step, step)
      if (this.#allowance <= 0) return
    }
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const client of waiting) client.resume()
  }

  /** Connects to the next node that accepts a connection. */
  async #reach() {
    for (let tries = 0; tries < this.ports.length; tries += 1) {
      const port = this.ports[this.#next % this.ports.length]
      this.#next += 1
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
      try {
        await once(socket, 'connect')
        return socket
      } catch {
        // Try the next node.
      }
    }
    return null
  }
}
