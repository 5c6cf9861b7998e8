// The tables of the documentation are those of the program.

import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { Landfall } from '../clients/lib/landfall.js'
import { run } from '../hooks/lib/programs.js'
import { Redis, startAzurite, startMoto } from '../nodes/lib/services.js'
import { read } from './lib/blocks.js'
import { rows } from './lib/tables.js'
import { cleanEnv } from './lib/terminal.js'

const code = (cell) => cell.replace(/^`(.*)`$/, '$1')
const landfall = (...args) => run(process.env.LANDFALL_BIN, args, { env: cleanEnv() })

test('every metric of a server with all features is documented, and no other', { timeout: 60_000 }, async (t) => {
  const moto = await startMoto(t)
  const redis = await Redis.start(t)
  const server = await Landfall.start(t, {
    args: [
      '-s3-bucket', moto.bucket, '-s3-endpoint', moto.endpoint, '-lease', redis.url, '-direct',
      '-hooks-http', 'http://127.0.0.1:9/', '-hooks-http-retry', '0',
    ],
    env: {
      AWS_REGION: moto.region, AWS_ACCESS_KEY_ID: moto.accessKey, AWS_SECRET_ACCESS_KEY: moto.secretKey,
      LANDFALL_ADMIN_KEY: '0123456789abcdef0123',
    },
  })
  // Some metrics have a series only after an error, or after a call of a hook.
  const headers = { 'Tus-Resumable': '1.0.0', 'Upload-Length': '5' }
  assert.equal((await fetch(server.endpoint, { method: 'POST', headers })).status, 500, 'the hook cannot be reached')
  const azurite = await startAzurite(t)
  const cloud = await Landfall.start(t, {
    args: ['-azure-storage', azurite.container, '-azure-endpoint', azurite.endpoint], env: azurite.env,
  })
  const families = async ({ endpoint }) => {
    const metrics = await (await fetch(new URL('/metrics', endpoint))).text()
    return [...metrics.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name)
  }
  const ofCloud = (await families(cloud)).filter((name) => name.startsWith('landfall_cloud_'))
  const existing = [...await families(server), ...ofCloud]
  const documented = (await rows('docs/monitoring.md', '## Metrics'))
    .flatMap(([names]) => names.match(/\b(?:landfall|tusd|process)_[a-z0-9_]+/g) ?? [])
  assert.ok(existing.length > 80, `${existing.length} metrics`)
  assert.deepEqual(documented.toSorted(), existing.toSorted())
})

test('every error of the program is documented, and no other', async () => {
  const source = await read('crates/protocol/src/problem.rs')
  const table = [...source.matchAll(/=> (\d+), "(ERR_\w+)",\s+"([^"]+)";/g)].map(([, ...cells]) => cells)
  assert.equal(table.length, source.match(/"ERR_/g).length)
  const documented = (await rows('docs/protocol.md', '### Errors')).slice(1)
  const found = documented.map(([status, name, message]) => [status, code(name), message])
  assert.deepEqual(found.toSorted(), table.toSorted())
})

test('every flag of tusd is documented as the program treats it', { timeout: 60_000 }, async () => {
  const flags = (await read('crates/server/tests/it/tusd-flags.txt')).split('\n').filter((line) => /^[a-z]/.test(line))
  const table = (await rows('docs/migrating-from-tusd.md', '## Flags')).slice(1)
  assert.equal(flags.length, 79)
  assert.ok(table.length > 20)
  const valueOf = (cell) => (cell === 'none' ? '' : code(cell))
  for (const [flag, value] of table) assert.ok(flags.includes(`${code(flag).slice(2)}=${valueOf(value)}`), flag)
  // A flag without a row is the same as tusd's.
  const documented = flags.map((flag) => {
    const [name, ...value] = flag.split('=')
    const row = table.find(([cell]) => code(cell) === `--${name}`)
    return row ?? [`--${name}`, value.join('=') || 'none', 'same', 'same']
  })

  const shown = JSON.parse((await landfall('config', 'show', '--json')).stdout)
  const defaults = new Map(shown.map(({ name, default: value }) => [name, value]))
  const inMiB = (text) => text.replace(/^(\d{7,})$/, (_, bytes) => `${bytes / 2 ** 20}MiB`)
  for (const [flag, theirCell, ours, why] of documented) {
    const name = code(flag).slice(2)
    const theirs = valueOf(theirCell)
    assert.ok(why, `${flag} has no description`)
    if (theirs) {
      const { code: status, stderr } = await landfall('config', 'check', '--offline', `-${name}=${theirs}`)
      assert.equal(status, 0, `tusd's default of ${flag} is refused: ${stderr}`)
    }
    if (ours === 'refused') {
      const other = theirs === 'false' ? 'true' : 'x'
      const { code: status, stderr } = await landfall('config', 'check', '--offline', `-${name}=${other}`)
      assert.equal(status, 2, `${flag} is accepted`)
      assert.match(stderr, new RegExp(`^landfall: --${name}: .*\\b(not|Go plugins)\\b`), flag)
      continue
    }
    if (ours === 'ignored') {
      const { code: status, stderr } = await landfall('config', 'check', '--offline', `-${name}=7`)
      assert.equal(status, 0, `${flag} is refused: ${stderr}`)
      assert.match((await landfall('help', name)).stdout, /without effect/)
      assert.match(why, /without effect/)
      continue
    }
    if (name === 'version') {
      assert.match((await landfall('-version')).stdout, /^Version: .*\nCommit: .*\nDate: .*\n$/)
      continue
    }
    if (name === 'enable-experimental-protocol') {
      // A name of --rufh.
      const given = JSON.parse((await landfall('config', 'show', '--json', `-${name}=false`)).stdout)
      assert.equal(given.find((setting) => setting.name === 'rufh').value, 'off')
      assert.equal(defaults.get('rufh'), 'on')
      continue
    }
    assert.ok(defaults.has(name), `${flag} is no setting`)
    assert.equal(defaults.get(name), ours === 'same' ? inMiB(theirs) : code(ours), flag)
    assert.equal(ours === 'same', defaults.get(name) === inMiB(theirs), `${flag} has a default of its own`)
    const isWithout = /without effect/.test((await landfall('help', name)).stdout)
    assert.equal(/without effect/.test(why), isWithout, flag)
  }
})

/** What the pages call unsupported, by the flag of tusd for it. */
const UNSUPPORTED = {
  'Go plugins': 'hooks-plugin',
  pprof: 'pprof',
}

test('what the page calls unsupported is refused, and nothing else is', async () => {
  const text = await read('docs/migrating-from-tusd.md')
  const [sentence] = text.split('## Not supported\n\n')[1].split('.')
  const named = sentence.split(/, | and /)
  assert.deepEqual(named.toSorted(), Object.keys(UNSUPPORTED).toSorted())
  const refused = (await rows('docs/migrating-from-tusd.md', '## Flags')).filter(([, , ours]) => ours === 'refused')
  const flags = refused.map(([flag]) => code(flag).slice(2))
  assert.ok(flags.length >= 5)
  for (const flag of flags) {
    assert.ok(named.some((name) => flag.includes(UNSUPPORTED[name])), `${flag} is refused, and the page does not say so`)
  }
  for (const name of named) assert.ok(flags.some((flag) => flag.includes(UNSUPPORTED[name])), name)
})

/** Sentences that say that something is missing, and the setting that provides it. */
const MISSING = [
  ['tls-certificate', /TLS \(put a|TLS is not supported|serves plain HTTP[:;,]/i],
  ['rufh', /(no|not) support\w* (for )?the IETF|IETF drafts?,? (is|are) not supported/i],
  ['http3', /HTTP\/3 is not supported/i],
  ['enable-h2c', /HTTP\/2 is not supported/i],
  ['s3-bucket', /\bS3 is not supported/i],
  ['gcs-bucket', /Google Cloud Storage is not (supported|implemented)/i],
  ['azure-storage', /Azure\b.* is not (supported|implemented)/i],
]

test('no page says that something is missing for which there is a setting', async () => {
  const shown = JSON.parse((await landfall('config', 'show', '--json')).stdout)
  const names = new Set(shown.map(({ name }) => name))
  const pages = (await readdir(new URL('../../docs', import.meta.url))).filter((name) => name.endsWith('.md'))
  assert.ok(pages.length > 20)
  for (const page of pages) {
    // A table of another server's features is not about this one.
    const lines = (await read(`docs/${page}`)).split('\n').filter((line) => !/^\||tusd serves plain HTTP/.test(line))
    for (const [name, pattern] of MISSING) {
      assert.ok(names.has(name), name)
      const found = lines.find((line) => pattern.test(line))
      assert.equal(found, undefined, `${page}, though there is --${name}`)
    }
  }
})
