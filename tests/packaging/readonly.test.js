// The program as the first process of a container with a read-only root, without an engine. Needs root.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { tempDir } from '../clients/lib/source.js'
import { until } from '../crash/lib/program.js'
import { run } from '../hooks/lib/programs.js'
import { create } from '../hooks/lib/start.js'
import { freePorts } from '../nodes/lib/services.js'

const BINARY = process.env.LANDFALL_BIN

// Secrets are variables, and their features arguments.
const SECRETS = {
  LANDFALL_HOOKS_HTTP_SECRET: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  LANDFALL_ADMIN_KEY: 'hunter2hunter2hunter2hunter2',
  LANDFALL_GRANTS_FORWARD_AUTH_URL: 'http://127.0.0.1:9/me?key=1',
  LANDFALL_HOOKS_FAILURE_MODE: 'deny',
}

const ENTER = `
mount --bind "$1" "$1"
mount -o remount,ro,bind /
mount -t proc proc /proc
cd "$1"; shift
exec "$@"`

/** Starts the program; only `volume` can be written. */
function start(t, volume, args, env = {}) {
  const options = ['--mount', '--pid', '--fork', '--kill-child=SIGTERM', '--propagation', 'private']
  const child = spawn('unshare', [...options, 'sh', '-euc', ENTER, 'sh', volume, BINARY, ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log = []
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', (line) => log.push(line))
  const ended = once(child, 'close')
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, log, ended }
}

/** The processes as `[id, state, parent]`. */
async function processes() {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const stats = await Promise.all(ids.map((id) => readFile(`/proc/${id}/stat`, 'utf8').catch(() => '')))
  return stats.filter(Boolean).map((stat) => {
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return [Number.parseInt(stat, 10), state, Number(parent)]
  })
}

test('as PID 1 on a read-only root, with secrets as variables', { timeout: 120_000 }, async (t) => {
  const volume = await tempDir(t)
  await mkdir(`${volume}/hooks`)
  const hook = `${volume}/hooks/post-finish`
  // The child outlives its command.
  await writeFile(hook, `#!/bin/sh\nsh -c 'echo $$ >>${volume}/orphans; while [ ! -e ${volume}/go ]; do sleep 0.1; done' >/dev/null 2>&1 &\n`)
  await chmod(hook, 0o755)
  const [port] = await freePorts(1)
  const features = ['--hooks-dir', `${volume}/hooks`, '--hooks-http', 'http://127.0.0.1:9/', '--hooks-enabled-events', 'http:UploadStarted', '--grants']
  const { child, log } = start(t, volume, ['--host', '127.0.0.1', '--port', String(port), '--upload-dir', `${volume}/data`, ...features], SECRETS)
  const endpoint = `http://127.0.0.1:${port}/files/`
  await until(() => log.some((line) => line.includes('You can now upload')) || child.exitCode !== null)
  assert.equal(child.exitCode, null, log.join('\n'))

  const health = start(t, volume, ['health'], { ...SECRETS, LANDFALL_PORT: String(port), LANDFALL_HOST: '127.0.0.1' })
  assert.deepEqual(await health.ended, [0, null], health.log.join('\n'))

  // As a health check, which knows the server's variables, and reads its arguments.
  const [first] = (await processes()).find(([, , parent]) => parent === child.pid)
  const check = (...args) => run('nsenter', ['--target', String(first), '--pid', '--mount', BINARY, 'health', ...args], {
    env: { PATH: process.env.PATH, ...SECRETS },
  })
  for (const args of [[], ['--ready']]) {
    const checked = await check(...args)
    assert.equal(checked.code, 0, checked.stderr)
  }
  assert.notEqual((await check('--port', '1')).code, 0)

  for (let count = 1; count <= 3; count++) {
    const { status, text } = await create(endpoint, Buffer.from('hello'))
    assert.equal(status, 201, text)
    await until(async () => (await readFile(`${volume}/orphans`, 'utf8').catch(() => '')).trim().split('\n').length === count)
  }
  const children = async () => (await processes()).filter(([, , parent]) => parent === first)
  await until(async () => (await children()).length === 3)
  await writeFile(`${volume}/go`, '')
  await until(async () => (await children()).length === 0)
})

test('what a read-only root lacks is said before anything fails', { timeout: 60_000 }, async (t) => {
  const volume = await tempDir(t)
  for (const [args, setting] of [
    [['--upload-dir', '/srv/landfall-test'], '--upload-dir'],
    [['--upload-dir', `${volume}/data`, '--state-dir', '/srv/landfall-test', '--grants'], '--state-dir'],
    [['--upload-dir', `${volume}/data`, '--state-dir', '/srv/landfall-test', '--acme-domain', 'a.example'], '--state-dir'],
  ]) {
    const { log, ended } = start(t, volume, ['--port', '0', ...args])
    assert.deepEqual(await ended, [1, null], log.join('\n'))
    assert.ok(log.some((line) => line.includes(`${setting}: `) && line.includes('read-only; mount a volume there')), log.join('\n'))
  }
})
