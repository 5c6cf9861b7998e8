// signRequest of Uppy 6.3: what it is told to send besides the URL, which earlier ones did not know.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sha256, sourceFile } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { add, startUpload } from '../clients/lib/uppy.js'
import { object } from '../nodes/lib/bucket.js'
import { startCeph } from './lib/ceph.js'
import { CLIENTS, openClient, succeeded } from './lib/clients.js'
import { addCaller, startDirect, startWorld } from './lib/setup.js'

const TIMEOUT = { timeout: 120_000 }
const SIGNER = CLIENTS.find(({ mode }) => mode === 'signer')

/** Sends a small file; gives how it was signed, how it was sent, and what Uppy said of it. */
async function send(t, world, landfall, name) {
  const caller = await addCaller(landfall, name)
  const { page, calls } = await openClient(t, world, landfall, SIGNER, caller.key)
  world.front.reset()
  const source = await sourceFile(t, 10_000, { name: 'own file.png' })
  await add(page, [source])
  const answered = page.waitForResponse((response) => response.url().endsWith('/s3/presign'))
  await startUpload(page)
  const signed = await (await answered).json()
  const result = await succeeded(page, source)
  assert.deepEqual(calls(), ['POST /s3/presign'])
  assert.equal(sha256((await object(world.place, result.key)).data), source.sha256)
  assert.equal(result.key, signed.key)
  await until(async () => (await caller.all())[0].state === 'completed')
  const [sent, ...others] = world.front.requests.filter(({ method }) => method !== 'OPTIONS')
  assert.deepEqual(others, [])
  return { caller, signed, sent, source, result }
}

test('fields: the form of a POST policy', TIMEOUT, async (t) => {
  const world = await startWorld(t)
  const landfall = await startDirect(t, world)
  const { signed, sent, result } = await send(t, world, landfall, 'form')
  const { fields } = signed
  assert.equal(fields.key, signed.key)
  assert.equal(fields['content-type'], 'image/png')
  const policy = JSON.parse(Buffer.from(fields.policy, 'base64'))
  assert.ok(policy.conditions.some((one) => Array.isArray(one) && one[0] === 'content-length-range'), fields.policy)
  assert.equal(signed.headers, undefined)
  assert.deepEqual([sent.method, sent.status], ['POST', 201])
  const { headers } = await object(world.place, result.key)
  assert.equal(headers.get('Content-Type'), 'image/png')
})

test('headers: a PUT that writes once', TIMEOUT, async (t) => {
  const world = await startWorld(t, startCeph)
  const put = ['-direct-small-files', 'put']
  const landfall = await startDirect(t, world, put)
  const { signed, sent, source } = await send(t, world, landfall, 'once')
  assert.equal(signed.fields, undefined)
  assert.deepEqual(signed.headers, { 'content-type': 'image/png', 'if-none-match': '*' })
  assert.deepEqual([sent.method, sent.status, sent.headers['if-none-match']], ['PUT', 200, '*'])

  // What was examined stays, though the signature is still valid.
  const again = await fetch(signed.url, { method: 'PUT', headers: signed.headers, body: 'another file' })
  assert.equal(again.status, 412)
  assert.equal(sha256((await object(world.place, signed.key)).data), source.sha256)
})
