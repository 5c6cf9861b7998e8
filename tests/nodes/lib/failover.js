// Services of which one process may be lost: Garage with three nodes, Valkey with Sentinel, and HAProxy before both.

import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../../hooks/lib/programs.js'
import { until } from '../../crash/lib/program.js'
import { objects } from './bucket.js'
import { GARAGE_PLACE, find, freePorts, garageConfig, garageHealth, garageProgram, Service } from './services.js'

const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')

/**
 * Starts HAProxy on a free port until test `t` ends. It forwards TCP to those of `ports` that pass `checks`, and closes
 * the connections of one that does not.
 */
async function startProxy(t, ports, checks = []) {
  const [port] = await freePorts(1)
  const servers = ports.map((one) => `server s${one} 127.0.0.1:${one} check`)
  const config = `defaults
  mode tcp
  retries 2
  option redispatch
  timeout connect 1s
  timeout client 1h
  timeout server 1h
listen service
  bind 127.0.0.1:${port}
  ${[...checks, 'default-server inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions', ...servers].join('\n  ')}
`
  const service = await Service.start(port, async (dir) => {
    const path = join(dir, 'haproxy.cfg')
    await writeFile(path, config)
    return { program: find('haproxy', '/usr/sbin'), args: ['-db', '-f', path] }
  })
  t.after(() => service.stop())
  return port
}

/** Three nodes of Garage that hold every object, behind HAProxy. */
export class GarageCluster {
  #nodes
  #dir

  static async start(t) {
    const cluster = new GarageCluster()
    cluster.#dir = await mkdtemp(join(tmpdir(), 'landfall-garage-'))
    cluster.#nodes = []
    t.after(async () => {
      await Promise.all(cluster.#nodes.map(({ service }) => service?.stop()))
      await rm(cluster.#dir, { recursive: true, force: true })
    })
    for (let n = 0; n < 3; n += 1) {
      const [port, admin, rpc] = await freePorts(3)
      const dir = join(cluster.#dir, String(n))
      await mkdir(dir)
      const config = join(dir, 'garage.toml')
      await writeFile(config, garageConfig(dir, { port, admin, rpc, copies: 3 }))
      cluster.#nodes.push({ port, admin, config, service: await serveGarage(port, config) })
    }
    const [first] = cluster.#nodes
    const command = async (node, ...args) => {
      const { code, stdout, stderr } = await run(garageProgram(), ['-c', node.config, ...args])
      if (code !== 0) throw new Error(`garage ${args.join(' ')}: ${stderr}`)
      return stdout.trim()
    }
    const { bucket, accessKey, secretKey } = GARAGE_PLACE
    for (const node of cluster.#nodes) {
      const id = await command(node, 'node', 'id', '-q')
      if (node !== first) await command(first, 'node', 'connect', id)
      await until(() => command(first, 'layout', 'assign', '-z', 'here', '-c', '1G', id.split('@')[0]).then(() => true, () => false))
    }
    await command(first, 'layout', 'apply', '--version', '1')
    await until(() => command(first, 'key', 'import', '--yes', '-n', 'landfall', accessKey, secretKey).then(() => true, () => false))
    await command(first, 'bucket', 'create', bucket)
    await command(first, 'bucket', 'allow', '--read', '--write', '--owner', '--key', accessKey, bucket)
    // Nodes learn of each other by and by.
    for (const node of cluster.#nodes) {
      const place = { ...GARAGE_PLACE, endpoint: `http://127.0.0.1:${node.port}` }
      await until(() => objects(place).then(() => true, () => false))
    }
    const port = await startProxy(t, cluster.#nodes.map((node) => node.port))
    cluster.place = { ...GARAGE_PLACE, endpoint: `http://127.0.0.1:${port}` }
    return cluster
  }

  /** Kills node `n` of three. */
  async fail(n) {
    await this.#nodes[n].service.stop()
  }

  /** Starts it again with its data, and waits until all nodes are connected: before, the loss of another one leaves no quorum. */
  async repair(n) {
    const node = this.#nodes[n]
    node.service = await serveGarage(node.port, node.config)
    const isWhole = ({ admin }) => garageHealth(admin).then(({ connectedNodes }) => connectedNodes === 3, () => false)
    await until(async () => (await Promise.all(this.#nodes.map(isWhole))).every(Boolean), 120_000)
  }
}

function serveGarage(port, config) {
  const args = ['-c', config, 'server']
  return Service.start(port, () => ({ program: garageProgram(), args, env: { RUST_LOG: 'garage=error' } }))
}

const GROUP = 'leases'

/** A primary of Valkey, its replica and three Sentinels; HAProxy finds the primary. */
export class ValkeyGroup {
  #ports
  #sentinels
  #servers = new Map()

  static async start(t) {
    const group = new ValkeyGroup()
    group.#ports = await freePorts(2)
    group.#sentinels = await freePorts(3)
    const [primary, replica] = group.#ports
    const services = []
    t.after(() => Promise.all([...services, ...group.#servers.values()].map((service) => service.stop())))
    await group.#serve(primary)
    await group.#serve(replica, primary)
    for (const port of group.#sentinels) {
      services.push(await Service.start(port, async (dir) => {
        const path = join(dir, 'sentinel.conf')
        await writeFile(path, `port ${port}
bind 127.0.0.1
sentinel monitor ${GROUP} 127.0.0.1 ${primary} 2
sentinel down-after-milliseconds ${GROUP} 1000
sentinel failover-timeout ${GROUP} 2000
`)
        return { program: valkeyProgram(), args: [path, '--sentinel'] }
      }))
    }
    const port = await startProxy(t, group.#ports, [
      'option tcp-check',
      'tcp-check connect',
      'tcp-check send info\\ replication\\r\\n',
      'tcp-check expect string role:master',
    ])
    group.url = `redis://127.0.0.1:${port}`
    await group.#settled()
    return group
  }

  async #serve(port, primary) {
    this.#servers.set(port, await Service.start(port, (dir) => ({
      program: valkeyProgram(),
      args: [
        ...['--bind', '127.0.0.1', '--port', String(port), '--dir', dir, '--save', '', '--appendonly', 'no'],
        ...(primary ? ['--replicaof', '127.0.0.1', String(primary)] : []),
      ],
    })))
  }

  async #primary() {
    const reply = await command(this.#sentinels[0], `sentinel get-master-addr-by-name ${GROUP}`)
    return Number(reply.trim().split('\r\n').at(-1))
  }

  /** Waits until the Sentinels know a replica that could take over. */
  async #settled() {
    const isKnown = async (port) => {
      const replicas = await command(port, `sentinel replicas ${GROUP}`)
      const quorum = await command(port, `sentinel ckquorum ${GROUP}`)
      const isReady = /\bflags\r\n\$5\r\nslave\r\n/.test(replicas) && /\bmaster-link-status\r\n\$2\r\nok\r\n/.test(replicas)
      return isReady && quorum.startsWith('+OK')
    }
    await until(async () => (await Promise.all(this.#sentinels.map(isKnown))).every(Boolean), 60_000)
  }

  /** Kills the primary; the Sentinels promote its replica. */
  async fail() {
    const primary = await this.#primary()
    await this.#servers.get(primary).stop()
    this.lost = primary
  }

  /** Starts the lost one as replica of the present primary. */
  async repair() {
    await until(async () => (await this.#primary()) !== this.lost, 60_000)
    await this.#serve(this.lost, await this.#primary())
    await this.#settled()
  }
}

function valkeyProgram() {
  return find('valkey-server', join(cache, 'landfall-tests/valkey/bin'))
}

/** The reply to a command, which is short. */
async function command(port, words) {
  const socket = connect(port, '127.0.0.1')
  socket.setEncoding('utf8').write(`${words}\r\n`)
  const [reply] = await once(socket, 'data')
  socket.destroy()
  return reply
}
