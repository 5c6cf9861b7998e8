// One kill while PATCHes hold leases; a copy of the directory then continues elsewhere, next to the old server. It waits
// for no lease of the other machine, and every event arrives.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { promisify } from 'node:util'

import { Landfall } from '../../../clients/lib/landfall.js'
import { bytes } from '../../../clients/lib/source.js'
import { assertDeliveries, byUpload } from '../../../hooks/lib/ledger.js'
import { Receiver } from '../../../hooks/lib/receiver.js'
import { until } from '../program.js'
import { BYTES, append, ask, assertOffset, create } from '../request.js'
import { settingsOf } from '../stores.js'

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

export async function moved(t, row) {
  const receiver = await Receiver.start(t)
  const hooks = ['-hooks-http', receiver.url, '-hooks-enabled-events', 'post-create,post-finish']
  const args = [...hooks, ...(await settingsOf(t, row)), '-node-name']
  const old = await Landfall.start(t, { args: [...args, 'old'] })
  const uploads = []
  for (let n = 0; n < 5; n += 1) {
    const source = bytes(SIZE, n)
    uploads.push({ source, url: await create(old.endpoint, source, SENT), offset: SENT })
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
  const fresh = await Landfall.start(t, { args: [...args, 'new'], shared: dir })
  for (const { source, url, offset } of uploads) {
    const elsewhere = new URL(new URL(url).pathname, fresh.endpoint)
    const began = performance.now()
    await assertOffset(elsewhere, offset)
    await append(elsewhere, source, offset)
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
}
