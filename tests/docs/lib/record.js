// Checks commands without running them: each `landfall …` among them is recorded.

import assert from 'node:assert/strict'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tempDir } from '../../clients/lib/source.js'
import { run } from '../../hooks/lib/programs.js'
import { cleanEnv } from './terminal.js'

// Every other program is unknown, and does nothing.
const NOTHING = `command_not_found_handle() {
  if [ "$1" = sudo ]; then
    while [ $# -gt 1 ] && [ "$1 $2" != 'landfall config' ]; do shift; done
    [ $# -eq 1 ] || "$@"
  fi
  return 0
}
`

const RECORDER = `#!${process.execPath}
const { appendFileSync } = require('node:fs')
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => /^(LANDFALL|AWS)_/.test(name)))
appendFileSync(process.env.CALLS, JSON.stringify({ args: process.argv.slice(2), env }) + '\\n')
`

/** The calls of landfall in these commands: `[{ args, env }]`. */
export async function calls(t, text) {
  const dir = await tempDir(t)
  const file = join(dir, 'block.sh')
  await writeFile(file, text)
  const parsed = await run('bash', ['-n', file])
  assert.equal(parsed.code, 0, `${text}\n${parsed.stderr}`)

  const bin = join(dir, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'landfall'), RECORDER)
  await chmod(join(bin, 'landfall'), 0o755)
  const recorded = join(dir, 'calls')
  await writeFile(recorded, '')
  const env = { PATH: bin, CALLS: recorded, HOME: dir }
  await run('/bin/bash', ['--noprofile', '--norc', '-c', `${NOTHING}${text}\nwait`], { cwd: dir, env })
  const lines = (await readFile(recorded, 'utf8')).split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line))
}

const landfall = (args, env = {}) => run(process.env.LANDFALL_BIN, args, { env: { ...cleanEnv(), ...env } })

/** Checks the arguments of a call. `files` has local copies of files, by their path. */
export async function check({ args, env }, files = {}) {
  const words = args.slice(0, args.findIndex((arg) => arg.startsWith('-')) >>> 0)
  const options = args.slice(words.length)
  const local = options.map((option) => files[option] ?? option)
  if (words.length === 0 || words[0] === 'serve' || words.join(' ') === 'config check') {
    const checked = await landfall(['config', 'check', '--offline', ...local], env)
    assert.equal(checked.code, 0, `landfall ${args.join(' ')}\n${checked.stderr}`)
    return
  }
  const commands = [...(await landfall(['--help'])).stdout.matchAll(/^ {2}(\w+) {2,}/gm)].map(([, name]) => name)
  assert.ok(commands.includes(words[0]), `landfall ${words.join(' ')} is no command`)
  let help
  for (let count = words.length; count > 0 && help === undefined; count -= 1) {
    const { code, stdout } = await landfall(['help', ...words.slice(0, count)])
    if (code === 0) help = stdout
  }
  // A command that has commands of its own needs one of them.
  assert.ok(help && !/^Usage: .*<COMMAND>$/m.test(help), `landfall ${words.join(' ')} is no command`)
  for (const option of options.filter((arg) => arg.startsWith('--'))) {
    const [name] = option.split('=')
    const isSetting = (await landfall(['help', name.slice(2)])).code === 0
    assert.ok(isSetting || new RegExp(`${name}\\b`).test(help), `${words.join(' ')} has no ${name}`)
  }
}
