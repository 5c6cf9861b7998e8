// The command of the README that compiles the server and starts it, in a checkout.
//
// A default run does not compile: `cargo` starts the tested program if Cargo would select it for this command.
// With LANDFALL_LONG, Cargo compiles a copy of the checkout, which has nothing compiled yet.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { run } from '../../hooks/lib/programs.js'
import { ROOT } from './blocks.js'

const IS_LONG = Boolean(process.env.LANDFALL_LONG)
/** For a page that compiles. */
export const TIMEOUT_MS = IS_LONG ? 2_400_000 : 120_000

// No other command and no other options: the README would promise what nothing has tried.
const CARGO = `#!/bin/sh
if [ "$*" = 'run --release' ] && [ -e Cargo.toml ]; then exec landfall; fi
echo "cargo $*: not what the test of the README stands in for" >&2
exit 101
`

/** The programs that `cargo run` can select in a folder: those of the default members of its workspace. */
async function runnable(folder) {
  const { code, stdout, stderr } = await run('cargo', ['metadata', '--no-deps', '--offline', '--format-version', '1'], { cwd: folder })
  assert.equal(code, 0, stderr)
  const { packages, workspace_default_members: members } = JSON.parse(stdout)
  const targets = packages.filter(({ id }) => members.includes(id)).flatMap((one) => one.targets)
  return targets.filter(({ kind, ['required-features']: features }) => kind.includes('bin') && !features).map(({ name }) => name)
}

/** Copies the files that git knows, as they are. */
function copyOfCheckout(folder) {
  const copied = spawnSync('bash', ['-c', 'git ls-files -z | tar -c --null -T - | tar -x -C "$1"', 'copy', folder], { cwd: ROOT, encoding: 'utf8' })
  assert.equal(copied.status, 0, copied.stderr)
}

/** Runs the commands in a checkout, until the server is ready. */
export async function serveFromCheckout(terminals, text) {
  // The server outlives the test of this block.
  const checkout = join(terminals.dir, 'checkout')
  await mkdir(checkout)
  copyOfCheckout(checkout)
  assert.deepEqual(await runnable(checkout), ['landfall'])
  // What Cargo has downloaded for the tested program is all that it needs: these tests have no network.
  const { CARGO_HOME = join(homedir(), '.cargo'), RUSTUP_HOME = join(homedir(), '.rustup') } = process.env
  const env = { CARGO_HOME, RUSTUP_HOME, CARGO_NET_OFFLINE: 'true', CARGO_TARGET_DIR: join(checkout, 'target') }
  if (!IS_LONG) {
    const bin = join(checkout, '.bin')
    await mkdir(bin)
    await writeFile(join(bin, 'cargo'), CARGO)
    await chmod(join(bin, 'cargo'), 0o755)
    env.PATH = `${bin}:${terminals.env.PATH}`
  }
  await terminals.serve(text, { cwd: checkout, env, timeout: TIMEOUT_MS })
}
