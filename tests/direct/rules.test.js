// The rules hold for files that never pass through landfall: what is refused, and what the user reads then.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytes, MIB, sha256, sourceFile } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { add, startUpload } from '../clients/lib/uppy.js'
import { Caller } from '../grants/lib/queue.js'
import { multiparts, object, objects } from '../nodes/lib/bucket.js'
import { CLIENTS, details, failed, named, openClient, succeeded } from './lib/clients.js'
import { addCaller, startDirect, startWorld } from './lib/setup.js'

const TIMEOUT = { timeout: 120_000 }

test('rules', async (t) => {
  const world = await startWorld(t)
  const landfall = await startDirect(t, world)
  const { place, front } = world

  /** What is in the bucket: nothing of what is refused may be. */
  const bucket = async () => [await objects(place), await multiparts(place)]

  for (const client of CLIENTS) {
    // Uppy 6 shows nothing of what Companion says but the words that belong to the status.
    const mute = client.page === 'uppy/6/' && client.mode === 'companion'

    for (const size of [1_000, 6 * MIB]) {
      await t.test(`${client.name}: a type that is not allowed (${size} bytes)`, TIMEOUT, async (t) => {
        const before = await bucket()
        const caller = await addCaller(landfall, `type-${size}-${named(client.name)}`, ['--allowed-types', 'image/*'])
        const { page } = await openClient(t, world, landfall, client, caller.key)
        const source = await sourceFile(t, size, { name: 'notes.txt' })
        await add(page, [source])
        await startUpload(page)
        const message = await failed(page, source)
        assert.match(message, mute ? /Unsupported Media Type|Unprocessable/ : /text\/plain|type/)
        assert.match(await details(page), mute ? /./ : /text\/plain|type/)
        assert.deepEqual(await bucket(), before)
        assert.deepEqual(await caller.all(), [])
      })
    }

    // All that the signer is told of a file is its name.
    if (client.mode === 'signer') continue
    for (const size of [200_000, 6 * MIB]) {
      await t.test(`${client.name}: larger than allowed (${size} bytes)`, TIMEOUT, async (t) => {
        const before = await bucket()
        const caller = await addCaller(landfall, `size-${size}-${named(client.name)}`, ['--max-size', '100KB'])
        const { page } = await openClient(t, world, landfall, client, caller.key, { tellSize: true })
        const source = await sourceFile(t, size, { name: 'large.bin' })
        await add(page, [source])
        await startUpload(page)
        const message = await failed(page, source)
        assert.match(message, mute ? /Content Too Large|Payload Too Large|Unprocessable/ : /100000|100 KB|100,000|large/i)
        assert.deepEqual(await bucket(), before)
        assert.deepEqual(await caller.all(), [])
      })
    }
  }

  for (const client of CLIENTS) {
    await t.test(`${client.name}: the bucket refuses a small file that is larger than allowed`, TIMEOUT, async (t) => {
      const before = await bucket()
      front.reset()
      const caller = await addCaller(landfall, `form-${named(client.name)}`, ['--max-size', '1KB'])
      const { page } = await openClient(t, world, landfall, client, caller.key)
      const source = await sourceFile(t, 4_000, { name: 'large.bin' })
      await add(page, [source])
      await startUpload(page)
      await failed(page, source)
      // It closes the connection on what it refuses, so its answer may be lost on the way.
      const { status } = front.requests.findLast(({ method }) => method === 'POST')
      assert.ok([400, undefined].includes(status), `${status}`)
      assert.deepEqual(await bucket(), before)
    })

    if (client.mode === 'signer') continue
    await t.test(`${client.name}: the token of a grant makes one upload`, TIMEOUT, async (t) => {
      const caller = await addCaller(landfall, `grant-${named(client.name)}`)
      const source = await sourceFile(t, 12 * MIB, { name: 'granted.bin' })
      const { upload_token: token } = await caller.grant({ id: 'one', filename: source.name, filesize: source.size })
      const { page } = await openClient(t, world, landfall, client, token)
      await add(page, [source])
      await startUpload(page)
      const { key } = await succeeded(page, source)
      assert.equal(sha256((await object(place, key)).data), source.sha256)
      await until(async () => (await caller.job('one')).state === 'completed')
      const [{ request_id: id, size }, ...others] = await caller.all()
      assert.deepEqual([id, size, others], ['one', source.size, []])

      const { page: again } = await openClient(t, world, landfall, client, token)
      const second = await sourceFile(t, 1_000, { name: 'granted.bin', seed: 2 })
      await add(again, [second])
      await startUpload(again)
      await failed(again, second)
      assert.equal(sha256((await object(place, key)).data), source.sha256)
    })
  }

  /** Begins a multipart upload of somebody and sends one part of it; gives where it is. */
  async function begun(caller, metadata = {}, part = bytes(5 * MIB)) {
    const { status, body, text } = await caller.api.ask('POST', 's3/multipart', { filename: 'a.bin', type: 'application/x-test', metadata })
    assert.equal(status, 200, text)
    const path = `s3/multipart/${encodeURIComponent(body.uploadId)}`
    const query = `?key=${encodeURIComponent(body.key)}`
    const send = async (number, data) => {
      const signed = await caller.api.ask('GET', `${path}/${number}${query}`)
      assert.equal(signed.status, 200, signed.text)
      const { headers, status } = await fetch(signed.body.url, { method: 'PUT', body: data })
      assert.equal(status, 200)
      return { PartNumber: number, ETag: headers.get('ETag') }
    }
    return { ...body, path, query, send, parts: [await send(1, part)] }
  }

  await t.test('a size that was not true: nothing of it stays', TIMEOUT, async () => {
    const before = await bucket()
    const caller = await addCaller(landfall, 'liar')
    const { path, query, send, parts } = await begun(caller, { size: String(9 * MIB) })
    parts.push(await send(2, bytes(5 * MIB)))
    const answer = await caller.api.ask('POST', `${path}/complete${query}`, { parts })
    assert.equal(answer.status, 413, answer.text)
    assert.match(answer.body.message, /9437184/)
    assert.equal(answer.body.message, answer.body.error)
    await until(async () => (await multiparts(place)).length === before[1].length)
    assert.deepEqual(await bucket(), before)
    const [job] = await caller.all()
    assert.equal(job.state, 'failed')
  })

  await t.test('more than allowed in parts: stopped before its client is done', TIMEOUT, async () => {
    const before = await bucket()
    const caller = await addCaller(landfall, 'glutton', ['--max-size', '6MB'])
    const { send } = await begun(caller)
    await send(2, bytes(5 * MIB))
    await until(async () => (await caller.all())[0].state === 'failed')
    await until(async () => (await multiparts(place)).length === before[1].length)
    assert.deepEqual(await bucket(), before)
  })

  await t.test('more than allowed by a presigned PUT: removed', TIMEOUT, async () => {
    const before = await bucket()
    const caller = await addCaller(landfall, 'put', ['--max-size', '100KB'])
    const signed = await caller.api.ask('POST', 'api/sign_s3', { file_name: 'a.bin', file_type: '' })
    assert.equal(signed.status, 200, signed.text)
    const headers = { 'Content-Type': signed.body.file_type }
    const put = await fetch(signed.body.signed_request, { method: 'PUT', body: bytes(200_000), headers })
    assert.equal(put.status, 200)
    const answer = await caller.api.ask('POST', 'api/complete_s3', { url: signed.body.url })
    // The server may have looked before it was asked.
    assert.ok([410, 413].includes(answer.status), answer.text)
    await until(async () => (await objects(place)).length === before[0].length)
    assert.equal((await caller.all())[0].state, 'failed')
  })

  await t.test("somebody else's upload: as if there were none", TIMEOUT, async () => {
    const [owner, other] = [await addCaller(landfall, 'owner'), await addCaller(landfall, 'other')]
    const { key, path, query, parts } = await begun(owner)
    const others = await other.grant({ id: 'mine', filename: 'x', filesize: 1 })
    const tries = [
      ['GET', `${path}${query}`],
      ['GET', `${path}/2${query}`],
      ['GET', `${path}/batch${query}&partNumbers=2,3`],
      ['POST', `${path}/complete${query}`, { parts }],
      ['DELETE', `${path}${query}`],
      ['POST', 'api/complete_s3', { key }],
      ['POST', 'api/progress_s3', { key, uploaded: 1 }],
    ]
    const token = new Caller(landfall.origin, { Authorization: `Bearer ${others.upload_token}` }, '/')
    for (const [method, where, body] of tries) {
      for (const stranger of [other.api, token]) {
        const answer = await stranger.ask(method, where, body)
        assert.equal(answer.status, 404, `${method} ${where}: ${answer.text}`)
      }
      const nobody = new Caller(landfall.origin, {}, '/')
      assert.equal((await nobody.ask(method, where, body)).status, 401)
    }
    // In signer mode the key is one's own, whatever one asks for.
    const id = decodeURIComponent(path.split('/').pop())
    for (const request of [
      { method: 'PUT', key, uploadId: id, partNumber: 2 },
      { method: 'GET', key, uploadId: id },
      { method: 'POST', key, uploadId: id },
      { method: 'DELETE', key, uploadId: id },
    ]) {
      const answer = await other.api.ask('POST', 's3/presign', request)
      assert.equal(answer.status, 404, `${request.method}: ${answer.text}`)
    }
    const mine = await other.api.ask('POST', 's3/presign', { method: 'PUT', key, contentType: 'text/plain' })
    assert.notEqual(mine.body.key, key)
    assert.equal((await other.api.ask('POST', 's3/presign', { method: 'DELETE', key })).status, 403)

    assert.equal((await owner.api.ask('GET', `${path}${query}`)).body.length, 1)
    const done = await owner.api.ask('POST', `${path}/complete${query}`, { parts })
    assert.equal(done.status, 200, done.text)
    assert.equal(sha256((await object(place, key)).data), sha256(bytes(5 * MIB)))
  })
})
