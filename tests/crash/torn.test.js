// Descriptions damaged by another program or a disk while the server was stopped.

import assert from 'node:assert/strict'
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { test } from 'node:test'

import { Landfall } from '../clients/lib/landfall.js'
import { bytes } from '../clients/lib/source.js'
import { BYTES, ask } from './lib/request.js'

const SIZE = 200_000
const SENT = 120_000

const WAYS = {
  'cut in the middle': async (info) => truncate(info, Math.floor((await readFile(info)).length / 2)),
  'cut before its last byte': async (info) => truncate(info, (await readFile(info, 'utf8')).trimEnd().length - 1),
  empty: (info) => truncate(info, 0),
  'with garbage after it': (info) => appendFile(info, '\0\0\0}{"Offset":0'),
  'all zeros': async (info) => writeFile(info, Buffer.alloc((await readFile(info)).length)),
}

async function begin(endpoint, source) {
  const { status, headers } = await ask('POST', endpoint, {
    headers: { 'Upload-Length': SIZE, ...BYTES },
    body: source.subarray(0, SENT),
  })
  assert.equal(status, 201)
  return headers.location
}

async function end(url, source) {
  const { status } = await ask('PATCH', url, {
    headers: { 'Upload-Offset': SENT, ...BYTES },
    body: source.subarray(SENT),
  })
  assert.equal(status, 204, url)
}

test('a torn description harms no other upload, and no byte is lost', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const torn = []
  for (const [n, way] of Object.keys(WAYS).entries()) {
    const source = bytes(SIZE, n)
    torn.push({ way, source, url: await begin(landfall.endpoint, source) })
  }
  const other = { source: bytes(SIZE, 99) }
  other.url = await begin(landfall.endpoint, other.source)
  await landfall.kill()
  for (const upload of torn) {
    const info = `${landfall.pathOf(upload.url)}.info`
    upload.description = await readFile(info)
    await WAYS[upload.way](info)
  }
  await landfall.restart()

  for (const { way, url, source } of torn) {
    const { status } = await ask('HEAD', url)
    assert.ok(status >= 400, `HEAD of an upload whose description is ${way}: ${status}`)
    const patched = await ask('PATCH', url, { headers: { 'Upload-Offset': SENT, ...BYTES }, body: source.subarray(SENT) })
    assert.ok(patched.status >= 400, `PATCH of an upload whose description is ${way}: ${patched.status}`)
    const stored = await readFile(landfall.pathOf(url))
    assert.ok(stored.equals(source.subarray(0, SENT)), `bytes of an upload whose description is ${way}`)
  }
  await end(other.url, other.source)
  assert.ok((await readFile(landfall.pathOf(other.url))).equals(other.source))

  // After restoring a description from a backup the upload resumes, also without a restart.
  for (const { way, url, source, description } of torn) {
    await writeFile(`${landfall.pathOf(url)}.info`, description)
    const { status, headers } = await ask('HEAD', url)
    assert.equal(status, 200, way)
    assert.equal(Number(headers['upload-offset']), SENT, way)
    await end(url, source)
    assert.ok((await readFile(landfall.pathOf(url))).equals(source), way)
  }
})
