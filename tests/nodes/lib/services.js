// Starts what nodes need: services for the bucket, Redis for the leases.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const START_TIMEOUT_MS = 120_000

// Ends the service when this process is gone, for any reason.
const watchdog = readFileSync(
  new URL('../../services/src/watchdog.sh', import.meta.url),
  'utf8',
)

/** A program that scripts/install-test-deps puts into `folder`, or else of $PATH. */
export function find(name, folder) {
  const paths = [folder, ...(process.env.PATH ?? '').split(':')].map((dir) => join(dir, name))
  const found = paths.find((path) => existsSync(path))
  if (!found) throw new Error(`${name} is not installed; run: scripts/install-test-deps`)
  return found
}

// Below the ephemeral ports (Linux: from 32768), which another program may get while a service is still
// starting. No port is used twice, and concurrent processes start at distant ports.
// 10080 is one of the ports that fetch refuses.
const [firstPort, lastPort] = [10_100, 31_999]
let nextPort = firstPort + Math.floor(Math.random() * (lastPort - firstPort))

/** Returns `count` unused loopback ports. */
export async function freePorts(count) {
  const ports = []
  while (ports.length < count) {
    const port = nextPort
    nextPort = port < lastPort ? port + 1 : firstPort
    if (await isFree(port)) ports.push(port)
  }
  return ports
}

async function isFree(port) {
  const server = createServer()
  const free = new Promise((resolve) => {
    server.once('listening', () => resolve(true)).once('error', () => resolve(false))
  })
  server.listen(port, '127.0.0.1')
  if (!(await free)) return false
  await new Promise((resolve) => server.close(resolve))
  return true
}

/** Returns whether a process listens on a port. */
export function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** A service with a separate directory; both are removed by `stop`. */
export class Service {
  #watchdog
  #gone

  /** Runs `command(dir)` until it listens on `port`; `signal` ends it. */
  static async start(port, command, { signal = 'KILL' } = {}) {
    const dir = await mkdtemp(join(tmpdir(), 'landfall-test-'))
    const { program, args, env = {} } = await command(dir)
    const service = new Service()
    service.#watchdog = spawn('/bin/sh', ['-c', watchdog, 'watchdog', dir, signal, program, ...args], {
      stdio: ['pipe', 'ignore', 'inherit'],
      env: { ...process.env, ...env },
      detached: true,
    })
    service.#gone = once(service.#watchdog, 'exit')
    const deadline = performance.now() + START_TIMEOUT_MS
    while (!(await answers(port))) {
      if (service.#watchdog.exitCode !== null) throw new Error(`${program} ended as it started`)
      if (performance.now() > deadline) throw new Error(`${program} did not listen`)
      await sleep(20)
    }
    return service
  }

  async stop() {
    this.#watchdog.stdin.destroy()
    await this.#gone
  }
}

const ADMIN_TOKEN = '1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec'

/** Garage's bucket and key. */
export const GARAGE_PLACE = {
  region: 'garage',
  bucket: 'uploads',
  accessKey: 'GK1a2b3c4d5e6f708192a3b4c5',
  secretKey: '5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99',
}

export function garageProgram() {
  return find('garage', join(process.env.CARGO_HOME || join(homedir(), '.cargo'), 'bin'))
}

/** The configuration of a node with its data in `dir`; `copies` is on how many nodes an object is. */
export function garageConfig(dir, { port, admin, rpc, copies = 1 }) {
  return `metadata_dir = "${dir}/meta"
data_dir = "${dir}/data"
db_engine = "lmdb"
replication_factor = ${copies}
rpc_bind_addr = "127.0.0.1:${rpc}"
rpc_public_addr = "127.0.0.1:${rpc}"
rpc_secret = "${ADMIN_TOKEN}"
[s3_api]
s3_region = "${GARAGE_PLACE.region}"
api_bind_addr = "127.0.0.1:${port}"
[admin]
api_bind_addr = "127.0.0.1:${admin}"
admin_token = "${ADMIN_TOKEN}"
`
}

/** Returns the health of the cluster that a node of Garage reports. */
export async function garageHealth(admin) {
  const headers = { Authorization: `Bearer ${ADMIN_TOKEN}` }
  const response = await fetch(`http://127.0.0.1:${admin}/v2/GetClusterHealth`, { headers })
  return response.json()
}

/** Starts Garage with one bucket until test `t` ends; returns its address and key. */
export async function startGarage(t) {
  const [port, admin, rpc] = await freePorts(3)
  const place = { ...GARAGE_PLACE, endpoint: `http://127.0.0.1:${port}` }
  const service = await Service.start(port, async (dir) => {
    const config = join(dir, 'garage.toml')
    await writeFile(config, garageConfig(dir, { port, admin, rpc }))
    return {
      program: garageProgram(),
      args: ['-c', config, 'server', '--single-node', '--default-bucket'],
      env: {
        GARAGE_DEFAULT_ACCESS_KEY: place.accessKey,
        GARAGE_DEFAULT_SECRET_KEY: place.secretKey,
        GARAGE_DEFAULT_BUCKET: place.bucket,
        RUST_LOG: 'garage=warn',
      },
    }
  })
  t.after(() => service.stop())
  return place
}

/** Starts moto with one bucket until test `t` ends. */
export async function startMoto(t) {
  const [port] = await freePorts(1)
  const place = {
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    bucket: 'uploads',
    accessKey: 'AKIAIOSFODNN7EXAMPLE',
    secretKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  }
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const service = await Service.start(port, () => ({
    program: find('moto_server', join(cache, 'landfall-tests/moto/bin')),
    args: ['-H', '127.0.0.1', '-p', String(port)],
    env: { S3_UPLOAD_PART_MIN_SIZE: '5242880', PYTHONWARNINGS: 'ignore' },
  }))
  t.after(() => service.stop())
  const made = await fetch(`${place.endpoint}/${place.bucket}`, { method: 'PUT' })
  if (!made.ok) throw new Error(`moto made no bucket: ${made.status} ${await made.text()}`)
  return place
}

/** Starts Azurite until test `t` ends. It has no container. */
export async function startAzurite(t) {
  const [port] = await freePorts(1)
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'landfall-tests')
  const service = await Service.start(port, (dir) => ({
    program: find('azurite-blob', join(cache, 'azurite/node_modules/.bin')),
    // Without --disableTelemetry, it reports to its maker.
    args: ['--blobHost', '127.0.0.1', '--blobPort', String(port), '--location', dir, '--disableTelemetry', '--silent'],
    // The system may have no Node, or an old one.
    env: { PATH: `${join(cache, 'node/node_modules/.bin')}:${process.env.PATH}` },
  }))
  t.after(() => service.stop())
  return {
    endpoint: `http://127.0.0.1:${port}`,
    container: 'uploads',
    env: {
      AZURE_STORAGE_ACCOUNT: 'devstoreaccount1',
      AZURE_STORAGE_KEY: 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==',
    },
  }
}

/** Starts an emulator of Google Cloud Storage, with one bucket, until test `t` ends. */
export async function startGcs(t) {
  const [port] = await freePorts(1)
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const service = await Service.start(port, () => ({
    program: find('gcp-storage-emulator', join(cache, 'landfall-tests/gcs/bin')),
    args: ['start', '--host', '127.0.0.1', '--port', String(port), '--quiet', '--in-memory', '--default-bucket', 'uploads'],
  }))
  t.after(() => service.stop())
  const endpoint = `http://127.0.0.1:${port}`
  return { endpoint, bucket: 'uploads', env: { STORAGE_EMULATOR_HOST: endpoint } }
}

/**
 * Starts the strict fake of Google Cloud Storage, with one bucket, until test `t` ends. It is a program of the workspace,
 * beside landfall or, if that is the released one, where the tests of the workspace compile it.
 */
export async function startGcsFake(t) {
  const [port] = await freePorts(1)
  const beside = dirname(process.env.LANDFALL_BIN ?? '.')
  const folder = [beside, join(beside, '../debug')].find((dir) => existsSync(join(dir, 'landfall-gcs-fake')))
  if (!folder) throw new Error('landfall-gcs-fake is missing; run: cargo build -p landfall-test-services')
  const service = await Service.start(port, () => ({
    program: join(folder, 'landfall-gcs-fake'),
    args: [String(port), 'uploads'],
  }))
  t.after(() => service.stop())
  const host = `127.0.0.1:${port}`
  // Its metadata server issues tokens; no file may come first.
  return { endpoint: `http://${host}`, bucket: 'uploads', env: { GCE_METADATA_HOST: host, HOME: '/nonexistent' } }
}

/** A Redis without persistence; stopped when test `t` ends. */
export class Redis {
  #service

  static async start(t) {
    const redis = new Redis()
    ;[redis.port] = await freePorts(1)
    t.after(() => redis.kill())
    await redis.restart()
    return redis
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`
  }

  async kill() {
    await this.#service?.stop()
    this.#service = undefined
  }

  /** Removes all of its data. */
  async flush() {
    const socket = connect(this.port, '127.0.0.1')
    socket.write('FLUSHALL\r\n')
    const [answer] = await once(socket, 'data')
    socket.destroy()
    if (!String(answer).startsWith('+OK')) throw new Error(`FLUSHALL: ${answer}`)
  }

  /** Starts it on its port, empty. */
  async restart() {
    this.#service = await Service.start(this.port, (dir) => ({
      program: find('redis-server', '/usr/bin'),
      args: ['--bind', '127.0.0.1', '--port', String(this.port), '--dir', dir].concat([
        '--save',
        '',
        '--appendonly',
        'no',
      ]),
    }))
  }
}
