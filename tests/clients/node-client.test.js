// tus-js-client in Node against the real binary, on a network without faults.

import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { bytes, MIB, sha256, sourceFile, tempDir } from './lib/source.js'
import { CHUNK, count, FileUrlStorage, pause, prepare, until, Upload, uploadAll } from './lib/tus.js'

test('a file goes up in one piece', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 20 * MIB + 7)

  const { url, requests } = await uploadAll(createReadStream(source.path), {
    endpoint: landfall.endpoint,
  })

  assert.deepEqual(
    requests.map(({ method, status }) => [method, status]),
    [
      ['POST', 201],
      ['PATCH', 204],
    ],
  )
  assert.equal(await landfall.sha256(url), source.sha256)
  const head = await landfall.head(url)
  assert.deepEqual([head.offset, head.length], [source.size, source.size])
})

test('a file of no bytes is complete once created', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const { url, requests } = await uploadAll(Buffer.alloc(0), { endpoint: landfall.endpoint })
  assert.deepEqual(
    requests.map(({ method }) => method),
    ['POST'],
  )
  assert.equal(await landfall.storedBytes(url), 0)
  const head = await landfall.head(url)
  assert.deepEqual([head.offset, head.length], [0, 0])
})

test('a file goes up in chunks of 2,000,000 bytes', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const size = 5 * CHUNK + 123
  const data = bytes(size)

  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    chunkSize: CHUNK,
  })

  const patches = requests.filter(({ method }) => method === 'PATCH')
  assert.deepEqual(
    patches.map(({ offset }) => Number(offset)),
    [1, 2, 3, 4, 5].map((n) => n * CHUNK).concat(size),
  )
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('a chunk size that divides the length needs no extra request', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(3 * CHUNK)
  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    chunkSize: CHUNK,
  })
  assert.equal(count(requests, 'PATCH'), 3)
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('four parallel parts become one upload', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 16 * MIB + 3)

  const { url, requests } = await uploadAll(createReadStream(source.path), {
    endpoint: landfall.endpoint,
    parallelUploads: 4,
    metadata: { filename: 'joined.bin' },
    metadataForPartialUploads: { of: 'joined.bin' },
  })

  assert.equal(count(requests, 'POST'), 5, 'four partial uploads and the final one')
  assert.equal(await landfall.sha256(url), source.sha256)
  const info = await landfall.info(url)
  assert.equal(info.IsFinal, true)
  assert.equal(info.PartialUploads.length, 4)
  assert.deepEqual(info.MetaData, { filename: 'joined.bin' })
  const partials = (await landfall.allInfos()).filter(({ IsPartial }) => IsPartial)
  for (const partial of partials) {
    assert.deepEqual(partial.MetaData, { of: 'joined.bin' })
  }
  const head = await landfall.head(url)
  assert.deepEqual([head.offset, head.length], [source.size, source.size])
  assert.match(head.headers.get('Upload-Concat'), /^final;/)
})

test('four parallel parts go in chunks as well', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(12 * MIB + 1, 4)
  const { url } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    parallelUploads: 4,
    chunkSize: 1_000_000,
  })
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('a stream of unknown length tells its length at the end', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(7 * MIB + 11, 5)
  // Pieces of odd sizes, so that chunks and reads do not fall together.
  const pieces = []
  for (let at = 0; at < data.length; at += 77_777) pieces.push(data.subarray(at, at + 77_777))

  const { upload, requests, finished } = prepare(Readable.from(pieces), {
    endpoint: landfall.endpoint,
    uploadLengthDeferred: true,
    chunkSize: CHUNK,
  })
  upload.start()
  const url = await finished

  assert.equal(count(requests, 'POST'), 1)
  const head = await landfall.head(url)
  assert.equal(head.headers.get('Upload-Defer-Length'), null)
  assert.deepEqual([head.offset, head.length], [data.length, data.length])
  assert.equal(await landfall.sha256(url), sha256(data))
  const info = await landfall.info(url)
  assert.deepEqual([info.Size, info.SizeIsDeferred], [data.length, false])
})

test('a stream whose end falls on the end of a chunk', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(2 * CHUNK, 6)
  const { url } = await uploadAll(Readable.from([data]), {
    endpoint: landfall.endpoint,
    uploadLengthDeferred: true,
    chunkSize: CHUNK,
  })
  assert.equal(await landfall.sha256(url), sha256(data))
  assert.equal((await landfall.head(url)).length, data.length)
})

test('creation carries the whole upload', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(3 * MIB, 7)
  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    uploadDataDuringCreation: true,
  })
  assert.deepEqual(
    requests.map(({ method, status, offset }) => [method, status, Number(offset)]),
    [['POST', 201, data.length]],
  )
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('creation carries the first chunk', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(2 * CHUNK + 5, 8)
  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    uploadDataDuringCreation: true,
    chunkSize: CHUNK,
  })
  assert.deepEqual(
    requests.map(({ method, offset }) => [method, Number(offset)]),
    [
      ['POST', CHUNK],
      ['PATCH', 2 * CHUNK],
      ['PATCH', 2 * CHUNK + 5],
    ],
  )
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('parallel parts are sent during creation', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(4 * MIB, 9)
  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    parallelUploads: 4,
    uploadDataDuringCreation: true,
  })
  assert.equal(count(requests, 'PATCH'), 0)
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('PATCH can hide behind POST', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(CHUNK + 1, 10)
  const { url, requests } = await uploadAll(data, {
    endpoint: landfall.endpoint,
    overridePatchMethod: true,
    chunkSize: CHUNK,
  })
  assert.deepEqual(
    requests.map(({ method, status }) => [method, status]),
    [
      ['POST', 201],
      ['POST', 204],
      ['POST', 204],
    ],
  )
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('an abandoned upload goes on from its remembered URL', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 20 * MIB
  const source = await sourceFile(t, 12 * MIB)
  const urlStorage = new FileUrlStorage(join(await tempDir(t), 'urls.json'))
  const options = { endpoint: proxy.endpoint, urlStorage, removeFingerprintOnSuccess: true }

  const first = prepare(createReadStream(source.path), options)
  first.upload.start()
  await proxy.whenPassed(4 * MIB)
  await pause(first.upload)

  // A second program that knows nothing but the file and the storage.
  const second = prepare(createReadStream(source.path), options)
  const previous = await second.upload.findPreviousUploads()
  assert.equal(previous.length, 1)
  assert.equal(previous[0].size, source.size)
  second.upload.resumeFromPreviousUpload(previous[0])
  second.upload.start()
  const url = await second.finished

  assert.equal(count(second.requests, 'POST'), 0)
  const [head, patch] = second.requests
  assert.equal(head.method, 'HEAD')
  assert.ok(Number(head.offset) >= MIB, `kept ${head.offset} bytes`)
  assert.equal(patch.method, 'PATCH')
  assert.equal(patch.sentOffset, head.offset)
  assert.equal(await landfall.sha256(url), source.sha256)
  assert.deepEqual(await second.upload.findPreviousUploads(), [])
})

test('parallel parts go on from their remembered URLs', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 5 * MIB
  const source = await sourceFile(t, 64 * MIB)
  const urlStorage = new FileUrlStorage(join(await tempDir(t), 'urls.json'))
  const options = { endpoint: proxy.endpoint, urlStorage, parallelUploads: 4 }

  const first = prepare(createReadStream(source.path), options)
  first.upload.start()
  await proxy.whenPassed(6 * MIB)
  await pause(first.upload)

  const second = prepare(createReadStream(source.path), options)
  const [previous] = await second.upload.findPreviousUploads()
  assert.equal(previous.parallelUploadUrls.length, 4)
  second.upload.resumeFromPreviousUpload(previous)
  proxy.bytesPerSecond = Infinity
  second.upload.start()
  const url = await second.finished

  const resumed = second.requests.filter(({ method }) => method === 'HEAD')
  assert.equal(new Set(resumed.map(({ url }) => url)).size, 4)
  for (const { offset } of resumed) assert.ok(Number(offset) > 0)
  assert.ok(count(second.requests, 'PATCH') >= 4)
  assert.equal(count(second.requests, 'POST'), 1, 'only the final upload is created')
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('a finished upload that is found again needs one HEAD', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, MIB)
  const urlStorage = new FileUrlStorage(join(await tempDir(t), 'urls.json'))
  const options = { endpoint: landfall.endpoint, urlStorage }
  const { url } = await uploadAll(createReadStream(source.path), options)

  const again = prepare(createReadStream(source.path), options)
  const [previous] = await again.upload.findPreviousUploads()
  again.upload.resumeFromPreviousUpload(previous)
  again.upload.start()
  assert.equal(await again.finished, url)
  assert.deepEqual(
    again.requests.map(({ method }) => method),
    ['HEAD'],
  )
})

test('a remembered upload that is gone starts anew', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, MIB)
  const urlStorage = new FileUrlStorage(join(await tempDir(t), 'urls.json'))
  const options = { endpoint: landfall.endpoint, urlStorage }
  const { url: gone } = await uploadAll(createReadStream(source.path), options)
  await Upload.terminate(gone, options)

  const again = prepare(createReadStream(source.path), options)
  const [previous] = await again.upload.findPreviousUploads()
  again.upload.resumeFromPreviousUpload(previous)
  again.upload.start()
  const url = await again.finished
  assert.notEqual(url, gone)
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('abort and start go on where the bytes are', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 40 * MIB
  // What an aborted request left in socket buffers arrives as well: some MiB each time.
  const source = await sourceFile(t, 60 * MIB)
  const { upload, requests, finished } = prepare(createReadStream(source.path), {
    endpoint: proxy.endpoint,
  })

  upload.start()
  for (let round = 0; round < 3; round += 1) {
    await until(() => count(requests, 'HEAD') >= round)
    await proxy.whenPassed(3 * MIB)
    await pause(upload)
    upload.start()
  }
  const url = await finished

  assert.equal(count(requests, 'POST'), 1)
  const heads = requests.filter(({ method }) => method === 'HEAD').map(({ offset }) => Number(offset))
  assert.ok(heads.length >= 3 && heads[0] > 0, `offsets ${heads}`)
  assert.deepEqual(
    heads,
    [...heads].sort((a, b) => a - b),
    'offsets only grow',
  )
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('abort(true) in the middle removes the upload', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 10 * MIB
  const { upload, requests } = prepare(bytes(20 * MIB), { endpoint: proxy.endpoint })

  upload.start()
  await proxy.whenPassed(2 * MIB)
  const { url } = upload
  await upload.abort(true)

  assert.deepEqual(
    requests.filter(({ method }) => method === 'DELETE').map(({ status }) => status),
    [204],
  )
  assert.ok([404, 410].includes((await landfall.head(url)).status))
  await assert.rejects(stat(landfall.pathOf(url)), { code: 'ENOENT' })
  assert.deepEqual(
    (await landfall.allInfos()).map(({ ID }) => ID),
    [],
  )
})

test('a finished upload can be terminated', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const { url } = await uploadAll(bytes(1000), { endpoint: landfall.endpoint })
  await Upload.terminate(url)
  assert.ok([404, 410].includes((await landfall.head(url)).status))
  await assert.rejects(stat(landfall.pathOf(url)), { code: 'ENOENT' })
})

test('metadata survives: unicode, empty values, bytes that look like syntax', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const metadata = {
    filename: 'Überraschung 🎁 – 驚き.txt',
    empty: '',
    syntax: 'a, b c;d="e"\r\nX-Evil: 1',
    filetype: 'text/plain',
  }
  const { url } = await uploadAll(bytes(10), { endpoint: landfall.endpoint, metadata })

  assert.deepEqual((await landfall.info(url)).MetaData, metadata)
  const { headers } = await landfall.head(url)
  const told = Object.fromEntries(
    headers
      .get('Upload-Metadata')
      .split(',')
      .map((pair) => {
        const [key, value = ''] = pair.trim().split(' ')
        return [key, Buffer.from(value, 'base64').toString('utf8')]
      }),
  )
  assert.deepEqual(told, metadata)
  assert.equal(headers.get('X-Evil'), null)

  const download = await fetch(url)
  assert.equal(download.status, 200)
  assert.equal(sha256(Buffer.from(await download.arrayBuffer())), sha256(bytes(10)))
  assert.equal(download.headers.get('Content-Type'), 'text/plain')
})

test('many small uploads at once', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const sources = Array.from({ length: 64 }, (_, n) => bytes(n * 911 + 1, 100 + n))
  const done = await Promise.all(
    sources.map((data) => uploadAll(data, { endpoint: landfall.endpoint })),
  )
  for (const [n, { url }] of done.entries()) {
    assert.equal(await landfall.sha256(url), sha256(sources[n]))
  }
  assert.equal(new Set(done.map(({ url }) => url)).size, sources.length)
})
