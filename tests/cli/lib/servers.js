// The servers that the program is tested with, from the start scripts of the benchmark.

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { serve } from '../../hooks/lib/programs.js'
import { freePorts } from '../../nodes/lib/services.js'

const run = promisify(execFile)
const PEERS = fileURLToPath(new URL('../../../bench/peers', import.meta.url))
const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'landfall-bench')

/** The servers, with the features of each. */
export const SERVERS = [
  { name: 'landfall', path: '/files/', hasChecksum: true, hasConcatenation: true, hasDownloads: true },
  // GET ends its process now and then, with ERR_INVALID_STATE.
  { name: 'node', path: '/files/', hasChecksum: false, hasConcatenation: false, hasDownloads: false },
  ...(process.env.LANDFALL_LONG
    ? [{ name: 'rustus', path: '/files', hasChecksum: true, hasConcatenation: true, hasDownloads: true }]
    : []),
  ...(process.env.TUSD
    ? [{ name: 'tusd', path: '/files/', hasChecksum: false, hasConcatenation: true, hasDownloads: true }]
    : []),
]

/** A server with a separate folder, which stops when test `t` ends. */
export async function startServer(t, server) {
  const folder = await mkdtemp(join(tmpdir(), 'landfall-cli-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const [port] = await freePorts(1)
  const [program, ...args] = await command(server.name, port, folder)
  args.push(...(server.args ?? []))
  if (!existsSync(program) && program.includes('/')) {
    throw new Error(`${program} is not installed; run: scripts/install-test-deps cli`)
  }
  await serve(t, port, program, args, { env: { ...process.env, ...server.env } })
  return { port, folder, endpoint: `http://127.0.0.1:${port}${server.path}` }
}

async function command(name, port, folder) {
  if (name === 'landfall') {
    const binary = process.env.LANDFALL_BIN
    if (!binary) throw new Error('LANDFALL_BIN must name the landfall binary to test')
    return [binary, '--host', '127.0.0.1', '--port', String(port), '--upload-dir', folder]
  }
  const env = { ...process.env, CACHE }
  const { stdout } = await run(join(PEERS, `${name}.sh`), ['command', String(port), folder], { env })
  return stdout.trim().split('\n')
}
