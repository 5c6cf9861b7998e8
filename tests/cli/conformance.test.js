// All requirements of tus 1.0.0 and of the IETF draft, by the command that checks any server. The tests of the library run
// the same checks in process, for each version of the draft; LANDFALL_LONG=1 does it here, too, and over HTTP/3.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { createCertificate } from '../clients/lib/certificate.js'
import { tempDir } from '../clients/lib/source.js'
import { startAzurite, startGcsFake } from '../nodes/lib/services.js'
import { startServer } from './lib/servers.js'

const run = promisify(execFile)
const PROFILE = ['--profile', 'landfall']

/** Checks the program at `endpoint`; returns the exit code and the report. */
async function check(t, endpoint, args, env = {}) {
  const report = join(await tempDir(t), 'report.json')
  const all = ['conformance', endpoint, '--quiet', '--json', report, '--timeout', '60', ...args]
  const options = { env: { ...process.env, ...env } }
  const ended = await run(process.env.LANDFALL_BIN, all, options).catch((error) => error)
  const text = await readFile(report, 'utf8').catch(() => assert.fail(`${ended.stdout}${ended.stderr}`))
  return { code: ended.code ?? 0, ...JSON.parse(text) }
}

/** Starts Landfall with these arguments, and variables besides this process's; returns the endpoint. */
async function start(t, args = [], env = {}) {
  const all = ['--max-size', '10MiB', ...args]
  return (await startServer(t, { name: 'landfall', path: '/files/', args: all, env })).endpoint
}

/** The clouds: what Landfall is told of each. */
const CLOUDS = {
  'Google Cloud Storage': async (t) => {
    const { bucket, endpoint, env } = await startGcsFake(t)
    return start(t, ['--gcs-bucket', bucket, '--gcs-endpoint', endpoint], env)
  },
  Azure: async (t) => {
    const { container, endpoint, env } = await startAzurite(t)
    return start(t, ['--azure-storage', container, '--azure-endpoint', endpoint], env)
  },
}

const names = (report, result) => report.checks.filter((one) => one.result === result).map((one) => one.id)

/** Fails unless every check passes, does not apply, or is a documented choice. */
function assertConformant(report) {
  assert.ok(report.checks.length > 200, `${report.checks.length} checks`)
  const isWrong = ({ result }) => !['passed', 'skipped', 'documented'].includes(result)
  assert.deepEqual(report.checks.filter(isWrong), [])
  assert.equal(report.code, 0)
}

test('tus 1.0.0, with interruptions at random', async (t) => {
  const args = ['--protocol', 'tus', '--chaos', '--expect', 'tus,max-size', ...PROFILE]
  assertConformant(await check(t, await start(t), args))
})

for (const [cloud, start] of Object.entries(CLOUDS)) test(`both protocols on ${cloud}`, async (t) => {
  const report = await check(t, await start(t), ['--protocol', 'all', ...PROFILE])
  assertConformant(report)
  assert.ok(names(report, 'passed').length > 500, `${names(report, 'passed').length} passed`)
})

const IS_LONG = Boolean(process.env.LANDFALL_LONG)

for (const version of IS_LONG ? ['newest', '6', 'none'] : ['newest']) {
  test(`the IETF draft, interop version ${version}`, async (t) => {
    const args = ['--protocol', 'draft', '--interop-version', version, ...PROFILE]
    assertConformant(await check(t, await start(t), args))
  })
}

test('both protocols over HTTP/2', async (t) => {
  const endpoint = await start(t, ['--enable-h2c'])
  const report = await check(t, endpoint, ['--protocol', 'all', '--http2', ...PROFILE])
  assertConformant(report)
  assert.ok(names(report, 'passed').length > 500, `${names(report, 'passed').length} passed`)
})

if (IS_LONG) test('both protocols over HTTP/3', async (t) => {
  const { certificate, args } = await createCertificate(t)
  const endpoint = await start(t, [...args, '--http3'])
  const flags = ['--protocol', 'all', '--http3', ...PROFILE]
  const trust = { SSL_CERT_FILE: certificate }
  const report = await check(t, endpoint.replace('http:', 'https:'), flags, trust)
  assertConformant(report)
  assert.ok(names(report, 'passed').length > 500, `${names(report, 'passed').length} passed`)
})

if (IS_LONG) test('without the profile, its documented choices are the failures, and nothing else', async (t) => {
  const { stdout } = await run(process.env.LANDFALL_BIN, ['conformance', '--list', ...PROFILE])
  const lines = stdout.split('\n').filter((line) => line.includes('; documented choice: '))
  const choices = lines.map((line) => line.trim().split(/\s+/)[1]).sort()
  assert.ok(choices.length > 0)
  const endpoint = await start(t)
  const failed = new Set()
  for (const version of ['newest', 'none']) {
    const report = await check(t, endpoint, ['--protocol', 'all', '--interop-version', version])
    assert.equal(report.code, 1)
    for (const id of names(report, 'failed')) failed.add(id)
  }
  assert.deepEqual([...failed].sort(), choices)
})
