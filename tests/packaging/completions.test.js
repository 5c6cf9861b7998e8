// Shells complete commands and flags, those that a command takes.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { tempDir } from '../clients/lib/source.js'
import { run } from '../hooks/lib/programs.js'
import { landfall } from './lib/kubernetes.js'

const PRESS_TAB = fileURLToPath(new URL('lib/press_tab.py', import.meta.url))
const LINES = [
  ['landfall key', 'keys'],
  ['landfall --hooks-h', '--hooks-http'],
  ['landfall config sh', 'config show'],
  ['landfall keys add --max-s', 'keys add --max-size'],
  ['landfall --grants --upload-d', '--grants --upload-dir'],
  // Flags that these commands accept without effect.
  ['landfall keys add --disable-d', 'keys add --disable-d'],
  ['landfall sweep --por', 'sweep --por'],
]

for (const shell of ['bash', 'zsh', 'fish']) {
  test(`${shell} completes commands and flags`, async (t) => {
    const { stdout: script } = await landfall(['completions', shell], {})
    assert.ok(script.length <= (shell === 'bash' ? 100_000 : 240_000), `${script.length} bytes`)
    const dir = await tempDir(t)
    await writeFile(`${dir}/landfall`, script)
    const env = { PATH: process.env.PATH, HOME: dir }
    const typed = LINES.map(([line]) => line)
    const done = await run('python3', [PRESS_TAB, shell, `${dir}/landfall`, ...typed], { env })
    assert.equal(done.code, 0, done.stderr)
    assert.deepEqual(done.stdout.trimEnd().split('\n'), LINES.map(([, completed]) => completed))
  })
}
