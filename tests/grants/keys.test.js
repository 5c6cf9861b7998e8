// landfall keys, with a running server.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../clients/lib/tus.js'
import { addKey, Caller, KEY, keys, withGrants } from './lib/queue.js'
import { startPostgres } from './lib/postgres.js'

const FILE = { filename: 'a.bin', filesize: 10 }

async function lifeOfKeys(t, database) {
  const landfall = await withGrants(t, database)
  const run = (...args) => keys(landfall, args, database)
  const app = Caller.withKey(landfall.endpoint, await addKey(landfall, 'app', [], database))
  assert.equal((await app.ask('POST', '', { id: 'one', ...FILE })).status, 201)

  // A key of another subject with limits, and an admin key.
  const small = await addKey(landfall, 'small', ['--subject', 'ann', '--max-size', '10', '--allowed-types', 'image/*', '--max-active', '1'], database)
  const ann = Caller.withKey(landfall.endpoint, small)
  assert.equal((await ann.ask('GET', '/one')).status, 404)
  const large = await ann.ask('POST', '', { id: 'one', ...FILE, filesize: 11, filetype: 'image/png' })
  assert.deepEqual([large.status, Object.keys(large.body.errors)], [422, ['filesize']])
  const text = await ann.ask('POST', '', { id: 'one', ...FILE, filetype: 'text/plain' })
  assert.deepEqual([text.status, Object.keys(text.body.errors)], [422, ['filetype']])
  assert.equal((await ann.ask('POST', '', { id: 'one', ...FILE, filetype: 'image/png' })).status, 201)
  assert.equal((await ann.ask('POST', '', { id: 'two', ...FILE, filetype: 'image/png' })).status, 429)
  const boss = Caller.withKey(landfall.endpoint, await addKey(landfall, 'boss', ['--admin'], database))
  assert.deepEqual((await boss.all()).map(({ subject }) => subject).sort(), ['ann', 'app'])

  // They are listed without their secrets.
  const table = await run('list')
  assert.equal(table.code, 0, table.stderr)
  for (const name of ['app', 'small', 'ann', 'boss']) assert.match(table.stdout, new RegExp(`\\b${name}\\b`))
  assert.doesNotMatch(table.stdout, KEY)
  const listed = await run('list', '--json')
  assert.equal(listed.code, 0, listed.stderr)
  const all = listed.stdout.trim().split('\n').map((line) => JSON.parse(line))
  assert.deepEqual(all.map(({ name }) => name).sort(), ['app', 'boss', 'small'])
  assert.doesNotMatch(listed.stdout, KEY)

  // A revoked key is rejected within seconds; its running upload continues.
  const { id } = all.find(({ name }) => name === 'app')
  assert.equal((await run('revoke', String(id))).code, 0)
  await until(async () => (await app.ask('GET')).status === 401, 7_000)
  assert.equal((await run('revoke', 'small')).code, 0)
  await until(async () => (await ann.ask('GET')).status === 401, 7_000)
  assert.equal((await boss.ask('GET')).status, 200)
  const unknown = await run('revoke', 'nobody')
  assert.notEqual(unknown.code, 0)
  assert.match(unknown.stdout, /^0 keys/)
  const twice = await run('add', 'boss')
  assert.notEqual(twice.code, 0)
  assert.doesNotMatch(twice.stdout, KEY)

  const brief = Caller.withKey(landfall.endpoint, await addKey(landfall, 'brief', ['--expires', '2s'], database))
  assert.equal((await brief.ask('GET')).status, 200)
  await sleep(2_000)
  await until(async () => (await brief.ask('GET')).status === 401, 7_000)
}

test('keys on SQLite', { timeout: 60_000 }, (t) => lifeOfKeys(t, []))

test('keys on PostgreSQL', { timeout: 60_000 }, async (t) =>
  lifeOfKeys(t, ['--database', await startPostgres(t)]))
