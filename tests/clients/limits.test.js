// tus-js-client at the limits of its address: it waits and goes on, and sends nothing twice.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { Landfall } from './lib/landfall.js'
import { bytes, sha256 } from './lib/source.js'
import { count, prepare, until, uploadAll } from './lib/tus.js'

const ADDRESS = { 'X-Forwarded-For': '192.0.2.1' }

test('more uploads than an address may have at once', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t, { args: ['-behind-proxy', '-max-connections-per-address', '2'] })
  const created = await fetch(landfall.endpoint, {
    method: 'POST',
    headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': '10' },
  })
  const url = created.headers.get('location')
  // Someone else in the same office, who is slow.
  const slow = request(url, {
    method: 'PATCH',
    headers: {
      ...ADDRESS,
      'Tus-Resumable': '1.0.0',
      'Upload-Offset': '0',
      'Content-Length': '10',
      'Content-Type': 'application/offset+octet-stream',
    },
  })
  const answered = new Promise((resolve, reject) => slow.once('response', resolve).once('error', reject))
  slow.write('hello')
  await until(async () => (await landfall.head(url)).offset === 5)

  const data = bytes(100_000)
  const { upload, requests, finished } = prepare(data, { endpoint: landfall.endpoint, headers: ADDRESS })
  upload.start()
  await until(() => requests.some(({ status }) => status === 503))
  slow.end('world')
  assert.equal((await answered).statusCode, 204)

  assert.equal(await landfall.sha256(await finished), sha256(data))
  assert.equal(count(requests, 'POST'), 1, 'it began again')
})

test('more requests than an address may have in a second', { timeout: 120_000 }, async (t) => {
  const landfall = await Landfall.start(t, { args: ['-behind-proxy', '-max-requests-per-address', '2'] })
  const data = bytes(40_000)
  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    headers: ADDRESS,
    chunkSize: 10_000,
  })
  const statuses = requests.map(({ method, status }) => `${method} ${status}`)
  assert.ok(statuses.includes('PATCH 503'), `${statuses}`)
  // Another status would mean that the upload is gone.
  const heads = statuses.filter((status) => status.startsWith('HEAD'))
  assert.ok(heads.length > 0 && heads.every((status) => /200|423/.test(status)), `${statuses}`)
  assert.equal(await landfall.sha256(url), sha256(data))
  assert.equal(statuses.filter((status) => status === 'POST 201').length, 1, `it began again: ${statuses}`)
})
