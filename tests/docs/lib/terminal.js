// Runs the commands of a page as a reader does: in a new directory, with `landfall` on the path.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { tempDir } from '../../clients/lib/source.js'
import { answers } from '../../nodes/lib/services.js'

const PORT = 8080
const TIMEOUT_MS = 60_000
const END = 'END-OF-BLOCK-5d892c228ec8'

/** The environment without settings of landfall and of S3. */
export function cleanEnv() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(LANDFALL|AWS)_/.test(name)))
}

// Groups of processes that must not outlive this one.
const running = new Set()
process.on('exit', () => {
  for (const child of running) process.kill(-child.pid, 'SIGKILL')
})

/** Two terminals: one runs a server, the other one everything else. */
export class Terminals {
  #shell
  #server

  static async open(t, env = {}) {
    assert.ok(process.env.DOCS_NAMESPACE, 'run these tests with tests/docs/run')
    const terminals = new Terminals()
    t.after(() => terminals.close())
    terminals.dir = await tempDir(t)
    const [bin, home] = [join(terminals.dir, '.bin'), join(terminals.dir, '.home')]
    await mkdir(bin)
    await mkdir(home)
    await symlink(resolve(process.env.LANDFALL_BIN), join(bin, 'landfall'))
    // Without it, curl exits with 0 after an error response.
    await writeFile(join(home, '.curlrc'), 'fail-with-body\n')
    terminals.env = { ...cleanEnv(), HOME: home, PATH: `${bin}:${process.env.PATH}`, LC_ALL: 'C.UTF-8', ...env }
    return terminals
  }

  #spawn(args, { cwd = this.dir, env = {} } = {}) {
    const child = spawn('bash', ['--noprofile', '--norc', ...args], {
      cwd, env: { ...this.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'], detached: true,
    })
    running.add(child)
    const shell = { child, stdout: '', stderr: '', gone: once(child, 'close') }
    shell.gone.then(() => running.delete(child))
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        shell[name] += text
      })
    }
    child.stdin.on('error', () => {})
    return shell
  }

  /** Starts a server that stays until the next one, or until the page ends. `place`: its `cwd`, more of its `env`. */
  async serve(text, { timeout = TIMEOUT_MS, ...place } = {}) {
    await this.stopServer()
    assert.ok(!(await answers(PORT)), `port ${PORT} is taken by another program`)
    const server = this.#spawn(['-euo', 'pipefail', '-c', text], place)
    this.#server = server
    const deadline = performance.now() + timeout
    for (;;) {
      const said = `${server.stdout}${server.stderr}`
      assert.equal(server.child.exitCode ?? server.child.signalCode, null, `it ended:\n${text}\n${said}`)
      assert.ok(performance.now() < deadline, `it is not ready:\n${text}\n${said}`)
      const ready = await fetch(`http://localhost:${PORT}/readyz`).catch(() => undefined)
      if (ready?.status === 200) return
      await sleep(20)
    }
  }

  /** Runs commands to their end; fails if one fails. Returns what they print. */
  async run(text) {
    this.#shell ??= this.#spawn([])
    const shell = this.#shell
    shell.stdout = ''
    shell.stderr = ''
    shell.child.stdin.write(`set -euo pipefail\n${text}\nprintf '\\n%s\\n' ${END}\n`)
    const deadline = performance.now() + TIMEOUT_MS
    while (!shell.stdout.includes(END)) {
      const ended = (shell.child.exitCode ?? shell.child.signalCode) !== null || performance.now() > deadline
      assert.ok(!ended, `it failed:\n${text}\n${shell.stdout}\n${shell.stderr}`)
      await sleep(10)
    }
    return shell.stdout.slice(0, shell.stdout.indexOf(END))
  }

  async stopServer() {
    const server = this.#server
    this.#server = undefined
    if (!server || !running.has(server.child)) return
    process.kill(-server.child.pid, 'SIGTERM')
    await Promise.race([server.gone, sleep(15_000, null, { ref: false })])
    if (running.has(server.child)) process.kill(-server.child.pid, 'SIGKILL')
    await server.gone
  }

  async close() {
    await this.stopServer()
    if (!this.#shell) return
    this.#shell.child.stdin.end()
    await this.#shell.gone
  }
}
