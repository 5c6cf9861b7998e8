// All requirements of tus 1.0.0 and of the IETF draft, by the command that checks any server.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { tempDir } from '../clients/lib/source.js'
import { startServer } from './lib/servers.js'

const run = promisify(execFile)

// Deliberate, with the reasons in docs/protocol.md. Any other requirement, of any level, has to be met.
const DELIBERATE = [
  'draft/concurrency/offset-during-chunks-is-not-stale',
  'draft/options/accept-patch',
  'draft/retrieval/get',
  'tus/method-override/get-as-delete',
]

/** Checks the program at `endpoint`; returns the report. */
async function check(t, args) {
  const { endpoint } = await startServer(t, { name: 'landfall', path: '/files/', args: ['--max-size', '10MiB'] })
  const report = join(await tempDir(t), 'report.json')
  const all = ['conformance', endpoint, '--quiet', '--json', report, '--timeout', '60', ...args]
  await run(process.env.LANDFALL_BIN, all).catch((error) => assert.fail(`${error.stdout}${error.stderr}`))
  return JSON.parse(await readFile(report, 'utf8'))
}

function failedNames(report) {
  assert.ok(report.checks.length > 200, `${report.checks.length} checks`)
  assert.deepEqual(report.checks.filter((one) => one.result === 'error'), [])
  return report.checks.filter((one) => one.result === 'failed').map((one) => one.id)
}

test('tus 1.0.0, with interruptions at random', async (t) => {
  const report = await check(t, ['--protocol', 'tus', '--chaos', '--expect', 'tus,max-size'])
  const failed = failedNames(report)
  assert.deepEqual(failed.filter((id) => !DELIBERATE.includes(id)), [])
})

for (const version of ['newest', '6', 'none']) {
  test(`the IETF draft, interop version ${version}`, async (t) => {
    const report = await check(t, ['--protocol', 'draft', '--interop-version', version])
    assert.deepEqual(failedNames(report).filter((id) => !DELIBERATE.includes(id)), [])
  })
}
