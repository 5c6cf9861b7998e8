// The processes that are killed: one, or several nodes behind a balancer.

import { Landfall } from '../../clients/lib/landfall.js'
import { Balancer } from '../../nodes/lib/balancer.js'

export class Servers {
  #random
  #dead

  /** Starts `count` processes with the same settings until test `t` ends. */
  static async start(t, count, random, options) {
    const servers = new Servers()
    servers.#random = random
    servers.nodes = []
    for (let n = 0; n < count; n += 1) servers.nodes.push(await Landfall.start(t, options))
    const [first] = servers.nodes
    /** The creation URL. */
    servers.endpoint = count === 1
      ? first.endpoint
      : (await Balancer.start(t, servers.nodes.map(({ port }) => port))).endpoint
    return servers
  }

  /** Kills one of them. */
  async kill() {
    this.#dead = this.nodes[Math.floor(this.#random() * this.nodes.length)]
    await this.#dead.kill()
  }

  /** Starts the killed one again. */
  async restart() {
    await this.#dead.restart()
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.stop()))
  }

  idOf(url) {
    return this.nodes[0].idOf(url)
  }

  /** The last lines that they wrote. */
  get log() {
    return this.nodes.map(({ log }) => log.split('\n').slice(-15).join('\n')).join('\n---\n')
  }
}
