// An HTTP proxy that gives up after a time, as nginx does after `proxy_read_timeout`, or that delays requests, as a slow
// service does.

import { once } from 'node:events'
import { createServer, request as send } from 'node:http'

export class HttpProxy {
  #server
  #sockets = new Set()

  constructor(targetPort, { limit = Infinity, delay = () => 0 }) {
    this.targetPort = targetPort
    /** Milliseconds without a response, after which the client gets 504, and the server sees its connection closed. */
    this.limit = limit
    /** Milliseconds before this request is passed on. */
    this.delay = delay
    /** Requests that were delayed. */
    this.delayed = 0
  }

  /** Starts a proxy in front of `target`, a port or a server under test, that goes away when test `t` ends. */
  static async start(t, target, options) {
    const proxy = new HttpProxy(target.port ?? target, options)
    proxy.#server = createServer((request, response) => proxy.#pass(request, response))
    proxy.#server.on('connection', (socket) => {
      proxy.#sockets.add(socket)
      socket.once('close', () => proxy.#sockets.delete(socket))
    })
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    proxy.port = proxy.#server.address().port
    if (target.endpoint) {
      const url = new URL(target.endpoint)
      url.port = String(proxy.port)
      /** The creation URL through this proxy. */
      proxy.endpoint = url.href
    }
    t.after(() => proxy.close())
    return proxy
  }

  async close() {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }

  #pass(request, response) {
    const { method, url: path, headers } = request
    const upstream = send({ host: '127.0.0.1', port: this.targetPort, method, path, headers, agent: false })
    upstream.setNoDelay(true)
    let timer
    const end = (status) => {
      clearTimeout(timer)
      upstream.destroy()
      if (response.headersSent) return response.destroy()
      response.writeHead(status, { connection: 'close' }).end()
    }
    const wait = () => {
      if (this.limit === Infinity) return
      clearTimeout(timer)
      timer = setTimeout(end, this.limit, 504)
    }
    upstream.on('response', (answer) => {
      clearTimeout(timer)
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
      answer.on('error', () => response.destroy())
    })
    upstream.on('error', () => end(502))
    response.on('close', () => {
      clearTimeout(timer)
      upstream.destroy()
    })
    const delay = this.delay(request)
    if (delay > 0) this.delayed += 1
    setTimeout(() => {
      // As long as the client sends, the proxy does not wait for the server.
      request.on('data', wait).pipe(upstream)
      wait()
    }, delay)
  }
}
