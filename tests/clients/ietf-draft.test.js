// The modes of tus-js-client that speak the IETF draft "Resumable Uploads for HTTP", and curl as a client
// of one request.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import http from 'node:http'
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
    // Without interim responses.
    return stdout.replaceAll('\r', '').replace(/^(HTTP\/1\.1 1\d\d .*\n(.+\n)*\n)+/, '')
  }
  const version = ['-H', 'Upload-Draft-Interop-Version: 10']
  const answer = await curl('-X', 'PUT', '--data-binary', `@${source.path}`, ...version, '-H', 'Upload-Complete: ?1', landfall.endpoint)
  assert.match(answer, /^HTTP\/1\.1 201 /)
  const url = /^location: (\S+)$/im.exec(answer)[1]
  assert.equal(await landfall.sha256(url), source.sha256)

  const begun = await curl('-d', 'hello ', ...version, '-H', 'Upload-Complete: ?0', landfall.endpoint)
  const path = /^location: (\S+)$/im.exec(begun)[1]
  assert.deepEqual(await stateOf(path), [6, '?0', Number.NaN])
  const type = ['-H', 'Content-Type: application/partial-upload']
  await curl('-X', 'PATCH', '-d', 'world', ...type, ...version, '-H', 'Upload-Offset: 6', '-H', 'Upload-Complete: ?1', path)
  assert.deepEqual(await stateOf(path), [11, '?1', 11])
  assert.equal(await landfall.sha256(path), sha256(Buffer.from('hello world')))
})

/** Starts a request of the draft without its body, and collects its interim responses. */
function begin(url, { method = 'POST', length, headers = {} }) {
  const request = http.request(url, {
    method,
    headers: {
      'Upload-Draft-Interop-Version': '10',
      'Upload-Complete': '?1',
      'Content-Length': String(length),
      ...headers,
    },
  })
  const interim = []
  request.on('information', (response) => interim.push(response))
  const response = once(request, 'response').then(async ([response]) => {
    response.resume()
    await once(response, 'end')
    return response
  })
  response.catch(() => {})
  request.flushHeaders()
  return { request, interim, response }
}

test('interim responses name a new upload before its content, and its offset later', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(20 * MIB)
  const { request, interim, response } = begin(landfall.endpoint, { length: data.length })
  await until(() => interim.length === 1)
  const [{ statusCode, statusMessage, headers }] = interim
  assert.deepEqual([statusCode, statusMessage], [104, 'Upload Resumption Supported'])
  assert.equal(headers['upload-draft-interop-version'], '10')
  assert.match(headers['upload-limit'], /^min-size=0\b/)
  const url = headers.location
  assert.deepEqual(await stateOf(url), [0, '?0', data.length])

  request.write(data.subarray(0, 9 * MIB))
  await until(async () => (await stateOf(url))[0] === 9 * MIB)
  // Each byte is an occasion to report.
  let sent = 9 * MIB
  await until(() => {
    request.write(data.subarray(sent, ++sent))
    return interim.length === 2
  })
  assert.equal(interim[1].headers.location, url)
  const offset = Number(interim[1].headers['upload-offset'])
  assert.ok(offset > 9 * MIB && offset <= sent, String(offset))
  request.destroy()

  // The rest of the cut upload.
  await until(async () => (await stateOf(url))[0] >= offset)
  const [start] = await stateOf(url)
  const rest = begin(url, {
    method: 'PATCH',
    length: data.length - start,
    headers: { 'Upload-Offset': String(start), 'Content-Type': 'application/partial-upload' },
  })
  rest.request.end(data.subarray(start))
  assert.equal((await rest.response).statusCode, 201)
  assert.ok(rest.interim.every(({ headers }) => headers.location === undefined))
  assert.equal(await landfall.sha256(url), sha256(data))
  await assert.rejects(response)
})

test('interim responses are sent by --rufh-104', { timeout: 60_000 }, async (t) => {
  const forwarded = { 'X-Forwarded-For': '192.0.2.1' }
  for (const [args, headers, count] of [
    [[], {}, 1],
    [[], forwarded, 0],
    [['-behind-proxy'], {}, 0],
    [['-rufh-104', 'on', '-behind-proxy'], forwarded, 1],
    [['-rufh-104', 'off'], {}, 0],
  ]) {
    const landfall = await Landfall.start(t, { args })
    for (let round = 0; round < 3; round++) {
      const { request, interim, response } = begin(landfall.endpoint, { length: 5, headers })
      request.end('hello')
      const { statusCode, headers: fields } = await response
      assert.equal(statusCode, 201)
      assert.deepEqual(interim.map((one) => one.headers.location), Array(count).fill(fields.location))
    }
  }
})
