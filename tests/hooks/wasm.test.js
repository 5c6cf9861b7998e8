// The plugin of examples/wasm-plugin, built by its README, in the real server.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Landfall } from '../clients/lib/landfall.js'
import { tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { run } from './lib/programs.js'
import { Receiver } from './lib/receiver.js'
import { TUS, create, metadata } from './lib/start.js'

const PLUGIN = fileURLToPath(new URL('../../examples/wasm-plugin', import.meta.url))
const TARGET = 'wasm32-unknown-unknown'

async function build(t) {
  const out = await tempDir(t)
  const built = await run(
    'cargo', ['build', '--quiet', '--release', '--locked', '--target', TARGET, '--target-dir', out],
    { cwd: PLUGIN },
  )
  assert.equal(built.code, 0, built.stderr)
  return join(out, TARGET, 'release/wasm_plugin.wasm')
}

test('WASM: the example plugin rejects, limits and labels', { timeout: 180_000 }, async (t) => {
  const receiver = await Receiver.start(t)
  const landfall = await Landfall.start(t, {
    args: [
      '--hooks-wasm', await build(t), '--hooks-wasm-events', 'pre-create',
      '--hooks-http', receiver.url, '--hooks-http-events', 'post-create',
    ],
  })
  const named = (filename) => create(landfall.endpoint, Buffer.from('x'), { meta: { filename } })
  const refused = await named('Setup.EXE')
  assert.equal(refused.status, 415)
  assert.equal(refused.text, 'no .exe files, please\n')
  const large = await fetch(landfall.endpoint, {
    method: 'POST',
    headers: { ...TUS, 'Upload-Length': String(2 ** 30 + 1), 'Upload-Metadata': metadata({ filename: 'a.mkv' }) },
  })
  assert.equal(large.status, 413)
  assert.deepEqual(await landfall.allInfos(), [])

  assert.equal((await named('a.mkv')).status, 201)
  await until(() => receiver.deliveries.length === 1)
  assert.deepEqual(receiver.deliveries[0].message.Event.Upload.Labels, { kind: 'video' })
})
