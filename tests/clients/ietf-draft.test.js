// The modes of tus-js-client that speak the IETF draft "Resumable Uploads for HTTP", and curl as a client
// of one request.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { bytes, MIB, sha256, sourceFile } from './lib/source.js'
import { CHUNK, count, pause, prepare, until, Upload, uploadAll } from './lib/tus.js'

const run = promisify(execFile)

/** Upload-Offset, Upload-Complete and Upload-Length of an upload. */
async function stateOf(url) {
  const response = await fetch(url, {
    method: 'HEAD',
    headers: { 'Upload-Draft-Interop-Version': '10' },
  })
  assert.equal(response.status, 204)
  return [
    Number(response.headers.get('Upload-Offset')),
    response.headers.get('Upload-Complete'),
    Number(response.headers.get('Upload-Length') ?? Number.NaN),
  ]
}

for (const protocol of ['ietf-draft-03', 'ietf-draft-05']) {
  test(`${protocol}: files of several sizes in chunks`, { timeout: 60_000 }, async (t) => {
    const landfall = await Landfall.start(t)
    for (const size of [1, CHUNK, 3 * CHUNK, 5 * MIB + 7]) {
      const data = bytes(size)
      const { url, requests } = await uploadAll(data, {
        endpoint: landfall.endpoint,
        protocol,
        chunkSize: CHUNK,
        metadata: { filename: 'a ü.bin', filetype: 'application/x-test' },
      })
      assert.equal(count(requests, 'PATCH'), Math.ceil(size / CHUNK))
      assert.equal(await landfall.sha256(url), sha256(data))
      assert.deepEqual(await stateOf(url), [size, '?1', size])
      const { MetaData } = await landfall.info(url)
      assert.deepEqual(MetaData, { filename: 'a ü.bin', filetype: 'application/x-test' })
    }
  })

  test(`${protocol}: a file of no bytes`, { timeout: 60_000 }, async (t) => {
    const landfall = await Landfall.start(t)
    const { url, requests } = await uploadAll(Buffer.alloc(0), { endpoint: landfall.endpoint, protocol })
    assert.equal(count(requests, 'POST'), 1)
    assert.deepEqual(await stateOf(url), [0, '?1', 0])
  })

  test(`${protocol}: creation carries data`, { timeout: 60_000 }, async (t) => {
    const landfall = await Landfall.start(t)
    const data = bytes(3 * MIB, 7)
    for (const chunkSize of [Infinity, CHUNK]) {
      const { url } = await uploadAll(data, {
        endpoint: landfall.endpoint,
        protocol,
        chunkSize,
        uploadDataDuringCreation: true,
      })
      assert.equal(await landfall.sha256(url), sha256(data))
      assert.deepEqual(await stateOf(url), [data.length, '?1', data.length])
      const { MetaData } = await landfall.info(url)
      assert.equal(MetaData.filetype, undefined, 'the media type of the draft is not that of the file')
    }
  })

  test(`${protocol}: a stream of unknown length`, { timeout: 60_000 }, async (t) => {
    const landfall = await Landfall.start(t)
    const data = bytes(2 * CHUNK + 11, 5)
    const { url } = await uploadAll(Readable.from([data]), {
      endpoint: landfall.endpoint,
      protocol,
      uploadLengthDeferred: true,
      chunkSize: CHUNK,
    })
    assert.equal(await landfall.sha256(url), sha256(data))
    assert.deepEqual(await stateOf(url), [data.length, '?1', data.length])
  })

  test(`${protocol}: an aborted upload goes on, and can be cancelled`, { timeout: 60_000 }, async (t) => {
    const landfall = await Landfall.start(t)
    const proxy = await FaultProxy.start(t, landfall)
    proxy.bytesPerSecond = 8 * MIB
    const source = await sourceFile(t, 10 * MIB)
    const { upload, requests, finished } = prepare(createReadStream(source.path), {
      endpoint: proxy.endpoint,
      protocol,
    })
    upload.start()
    await until(async () => upload.url && (await landfall.storedBytes(upload.url)) > MIB)
    await pause(upload)
    proxy.bytesPerSecond = Infinity
    upload.start()
    const url = await finished
    assert.ok(count(requests, 'HEAD') >= 1)
    assert.equal(await landfall.sha256(url), source.sha256)
    await Upload.terminate(url, { protocol })
    assert.equal((await landfall.allInfos()).length, 0)
  })
}

test('curl sends a file in one request, and its rest in another', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 3 * MIB + 1)
  const curl = async (...args) => {
    const { stdout } = await run('curl', ['-sS', '-i', ...args])
    return stdout.replaceAll('\r', '').replace(/^HTTP\/1\.1 100 Continue\n\n/, '')
  }
  const version = ['-H', 'Upload-Draft-Interop-Version: 10']
  const answer = await curl('-X', 'PUT', '--data-binary', `@${source.path}`, ...version, '-H', 'Upload-Complete: ?1', landfall.endpoint)
  assert.match(answer, /^HTTP\/1\.1 201 /)
  const url = /^location: (\S+)$/m.exec(answer)[1]
  assert.equal(await landfall.sha256(url), source.sha256)

  const begun = await curl('-d', 'hello ', ...version, '-H', 'Upload-Complete: ?0', landfall.endpoint)
  const path = /^location: (\S+)$/m.exec(begun)[1]
  assert.deepEqual(await stateOf(path), [6, '?0', Number.NaN])
  const type = ['-H', 'Content-Type: application/partial-upload']
  await curl('-X', 'PATCH', '-d', 'world', ...type, ...version, '-H', 'Upload-Offset: 6', '-H', 'Upload-Complete: ?1', path)
  assert.deepEqual(await stateOf(path), [11, '?1', 11])
  assert.equal(await landfall.sha256(path), sha256(Buffer.from('hello world')))
})
