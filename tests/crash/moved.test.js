// A directory that is copied to another machine during uploads.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { test } from 'node:test'
import { promisify } from 'node:util'

import { Landfall } from '../clients/lib/landfall.js'
import { bytes } from '../clients/lib/source.js'
import { assertDeliveries, byUpload } from '../hooks/lib/ledger.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { until } from './lib/program.js'
import { BYTES, ask } from './lib/request.js'

const run = promisify(execFile)
const SIZE = 400_000
const SENT = 150_000

/** A PATCH that has sent `end - start` bytes and stalls while it holds the lease. */
function hang(url, source, start, end) {
  const headers = { 'Tus-Resumable': '1.0.0', 'Upload-Offset': start, 'Content-Length': SIZE - start, ...BYTES }
  const sent = request(url, { method: 'PATCH', headers, agent: false })
  sent.on('error', () => {})
  sent.write(source.subarray(start, end))
  return sent
}

test('uploads go on in a copy of the directory on another machine', { timeout: 60_000 }, async (t) => {
  const receiver = await Receiver.start(t)
  const hooks = ['-hooks-http', receiver.url, '-hooks-enabled-events', 'post-create,post-finish']
  const old = await Landfall.start(t, { args: [...hooks, '-node-name', 'old'] })
  const uploads = []
  for (let n = 0; n < 5; n += 1) {
    const source = bytes(SIZE, n)
    const { status, headers } = await ask('POST', old.endpoint, {
      headers: { 'Upload-Length': SIZE, ...BYTES },
      body: source.subarray(0, SENT),
    })
    assert.equal(status, 201)
    uploads.push({ source, url: headers.location, offset: SENT })
  }
  // Some are being written while the machine is lost.
  for (const upload of uploads.slice(0, 3)) {
    upload.offset = 2 * SENT
    hang(upload.url, upload.source, SENT, upload.offset)
    await until(async () => Number((await ask('HEAD', upload.url)).headers['upload-offset']) === upload.offset)
  }
  await until(() => receiver.of('post-create').length >= uploads.length)
  await old.kill()

  const dir = `${old.dir}-moved`
  t.after(() => rm(dir, { recursive: true, force: true }))
  await run('cp', ['-a', old.dir, dir])
  // The old machine returns and works on its own copy, independently.
  await old.restart()
  const hanging = uploads.slice(0, 3).map(({ source, url }) => hang(url, source, 2 * SENT, 2 * SENT + 1))
  const fresh = await Landfall.start(t, { args: [...hooks, '-node-name', 'new'], shared: dir })
  for (const { source, url, offset } of uploads) {
    const moved = new URL(new URL(url).pathname, fresh.endpoint)
    const began = performance.now()
    const told = await ask('HEAD', moved)
    assert.equal(told.status, 200)
    assert.equal(Number(told.headers['upload-offset']), offset)
    const { status } = await ask('PATCH', moved, {
      headers: { 'Upload-Offset': offset, ...BYTES },
      body: source.subarray(offset),
    })
    assert.equal(status, 204)
    const took = performance.now() - began
    assert.ok(took < 10_000, `it waited ${took} ms for a lease of another machine`)
    assert.ok((await readFile(fresh.pathOf(url))).equals(source))
  }
  for (const sent of hanging) sent.destroy()
  await until(() => receiver.of('post-finish').length >= uploads.length)
  const told = byUpload(receiver.deliveries)
  for (const { url } of uploads) {
    const id = fresh.idOf(url)
    assertDeliveries(id, told.get(id), ['post-create', 'post-finish'], { replayed: true })
  }
})
