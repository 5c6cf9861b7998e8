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

/** Starts one with an empty database until test `t` ends; gives its URL. */
export async function startPostgres(t) {
  const [port] = await freePorts(1)
  const url = `postgres://${USER}@127.0.0.1:${port}/postgres`
  const owner = process.getuid() === 0 ? unprivileged() : null
  const as = owner
    ? ['setpriv', `--reuid=${owner[0]}`, `--regid=${owner[1]}`, '--clear-groups', '--']
    : ['env']
  const service = await Service.start(port, async (dir) => {
    if (owner) chownSync(dir, ...owner)
    const data = `${dir}/data`
    const [command, ...rest] = [...as, program('initdb')]
    const made = await run(command, [
      ...rest, '--no-sync', '--auth=trust', '--encoding=UTF8', '--locale=C', '--username', USER,
      '--pgdata', data,
    ], { cwd: '/' })
    if (made.code !== 0) throw new Error(`initdb failed: ${made.stderr}`)
    return {
      program: as[0],
      args: [
        ...as.slice(1), program('postgres'), '-D', data, '-h', '127.0.0.1', '-p', String(port),
        '-c', 'unix_socket_directories=', '-c', 'max_connections=200', '-c', 'fsync=off',
      ],
    }
  }, { signal: 'QUIT' })
  t.after(() => service.stop())
  // It listens a moment before it lets anyone in.
  await until(async () => (await run(program('pg_isready'), ['--quiet', '--dbname', url])).code === 0)
  return url
}
