// PostgreSQL, as scripts/install-test-deps puts it there.

import { chownSync, readFileSync, readdirSync } from 'node:fs'
import { find, freePorts, Service } from '../../nodes/lib/services.js'
import { run } from '../../hooks/lib/programs.js'
import { until } from '../../crash/lib/program.js'

const USER = 'landfall'

/** A program of the newest version that is there; Debian keeps them out of $PATH. */
function program(name) {
  const folder = '/usr/lib/postgresql'
  let versions = []
  try {
    versions = readdirSync(folder).map(Number).sort((a, b) => b - a)
  } catch {
    // Elsewhere it is in $PATH.
  }
  return find(name, `${folder}/${versions[0]}/bin`)
}

/** PostgreSQL doesn't run as root: whom root runs it as, `[uid, gid]`. */
function unprivileged() {
  const users = readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':'))
  const [, , uid, gid] = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody')
  return [Number(uid), Number(gid)]
}

const owner = process.getuid() === 0 ? unprivileged() : null
const as = owner
  ? ['setpriv', `--reuid=${owner[0]}`, `--regid=${owner[1]}`, '--clear-groups', '--']
  : ['env']

/** Runs a program of PostgreSQL, or a shell, as the owner of its data. */
async function runAsOwner(name, args, options) {
  const [command, ...rest] = [...as, program(name), ...args]
  const { code, stdout, stderr } = await run(command, rest, { cwd: '/', ...options })
  if (code !== 0) throw new Error(`${name} failed: ${stderr}`)
  return stdout.trim()
}

const urlOf = (...ports) => `postgres://${USER}@${ports.map((port) => `127.0.0.1:${port}`).join(',')}/postgres`

/** Starts a server on `port` with the data that `fill(data)` makes. */
async function serve(port, fill, settings = []) {
  const service = await Service.start(port, async (dir) => {
    if (owner) chownSync(dir, ...owner)
    const data = `${dir}/data`
    await fill(data)
    return {
      program: as[0],
      args: [
        ...as.slice(1), program('postgres'), '-D', data, '-h', '127.0.0.1', '-p', String(port),
        ...['unix_socket_directories=', 'max_connections=200', 'fsync=off', ...settings].flatMap((one) => ['-c', one]),
      ],
    }
  }, { signal: 'QUIT' })
  // It listens a moment before it lets anyone in.
  await until(async () => (await run(program('pg_isready'), ['--quiet', '--dbname', urlOf(port)])).code === 0)
  return service
}

const empty = (data) => runAsOwner('initdb', [
  '--no-sync', '--auth=trust', '--encoding=UTF8', '--locale=C', '--username', USER, '--pgdata', data,
])

/** Starts one with an empty database until test `t` ends; gives its URL. */
export async function startPostgres(t) {
  const [port] = await freePorts(1)
  const service = await serve(port, empty)
  t.after(() => service.stop())
  return urlOf(port)
}

/** Removes all leases, as somebody does who restores the database without them. */
export async function emptyLeases(url) {
  const { code, stderr } = await run(program('psql'), [url, '--quiet', '--command', 'DELETE FROM leases'])
  if (code !== 0) throw new Error(`psql failed: ${stderr}`)
}

/** A primary and a synchronous replica, which takes over when `fail` ends the primary as a crash would. */
export class PostgresPair {
  #ports
  #servers = []
  #primary = 0
  #data = []

  static async start(t) {
    const pair = new PostgresPair()
    pair.#ports = await freePorts(2)
    t.after(() => Promise.all(pair.#servers.map((server) => server?.stop())))
    pair.#servers[0] = await serve(pair.#ports[0], (data) => {
      pair.#data[0] = data
      return empty(data)
    }, ['wal_keep_size=1GB'])
    await pair.repair()
    return pair
  }

  /** The URL with both servers. */
  get url() {
    return urlOf(...this.#ports)
  }

  #query(server, statements) {
    const url = urlOf(this.#ports[server])
    return runAsOwner('psql', ['--no-psqlrc', '--quiet', '--tuples-only', '--no-align', '--set=ON_ERROR_STOP=1', url], {
      input: statements,
    })
  }

  async fail() {
    const replica = 1 - this.#primary
    await this.#servers[this.#primary].stop()
    await this.#query(replica, 'SELECT pg_promote(true, 30)')
    this.#primary = replica
  }

  /**
   * Starts the missing server as replica of the other, from a copy of its data. Only then commits wait for it: a primary
   * without a replica commits alone.
   */
  async repair() {
    const primary = this.#primary
    const replica = 1 - primary
    const follow = `primary_conninfo=host=127.0.0.1 port=${this.#ports[primary]} user=${USER}`
    this.#servers[replica] = await serve(this.#ports[replica], async (data) => {
      this.#data[replica] = data
      // tar complains about files that are written meanwhile; recovery repeats it.
      await this.#query(primary, `
SELECT pg_backup_start('replica', true) \\g /dev/null
\\! mkdir -m 700 ${data}
\\! tar -C ${this.#data[primary]} --exclude=./postmaster.pid --exclude='./pg_wal/*' -cf - . 2>/dev/null | tar -C ${data} -xf -
\\! touch ${data}/standby.signal
\\o ${data}/backup_label
SELECT labelfile FROM pg_backup_stop(false);
`)
    }, ['wal_keep_size=1GB', follow])
    await this.#query(primary, `ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf();`)
    await until(async () => (await this.#query(primary, 'SELECT sync_state FROM pg_stat_replication')) === 'sync')
  }
}
