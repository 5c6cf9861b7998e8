// Tokens at the real server: one upload each, however they travel.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, MIB, sha256 } from '../clients/lib/source.js'
import { uploadAll } from '../clients/lib/tus.js'
import { TUS, append, create, head, metadata } from '../hooks/lib/start.js'
import { run } from '../hooks/lib/programs.js'
import { addKey, Caller, withGrants } from './lib/queue.js'

async function setUp(t, args = [], keyArgs = []) {
  const landfall = await withGrants(t, args)
  const caller = Caller.withKey(landfall.endpoint, await addKey(landfall, 'app', keyArgs))
  return { landfall, caller }
}

/** A creation without bytes. */
async function begin(endpoint, length, headers) {
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { ...TUS, ...(length === null ? { 'Upload-Defer-Length': '1' } : { 'Upload-Length': String(length) }), ...headers },
  })
  return {
    status: response.status,
    url: response.headers.get('Location'),
    offset: response.headers.get('Upload-Offset'),
    headers: response.headers,
    text: await response.text(),
  }
}

test('without a good token nothing is created', { timeout: 60_000 }, async (t) => {
  const { landfall } = await setUp(t)
  const none = await begin(landfall.endpoint, 5, {})
  assert.equal(none.status, 401)
  assert.match(none.headers.get('WWW-Authenticate'), /^Bearer/)
  assert.match(none.text, /\w+ \w+/)
  for (const token of ['lft_x', `lft_${'A'.repeat(43)}`, 'nothing at all']) {
    const { status } = await begin(landfall.endpoint, 5, { 'Upload-Token': token })
    assert.equal(status, 401, token)
  }
  // Not even for a moment, when the bytes come along.
  const { status } = await create(landfall.endpoint, Buffer.from('bytes'), { headers: { 'Upload-Token': 'lft_x' } })
  assert.equal(status, 401)
  assert.deepEqual(await landfall.allInfos(), [])
})

test('ten creations with one token at once make one upload', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  for (let round = 0; round < 5; round += 1) {
    const granted = await caller.grant({ id: `race-${round}`, filesize: 5 })
    const answers = await Promise.all(Array.from({ length: 10 }, () =>
      begin(landfall.endpoint, 5, { 'Upload-Token': granted.upload_token })))
    assert.deepEqual(answers.map(({ status }) => status), Array(10).fill(201), answers.map(({ text }) => text).join())
    assert.equal(new Set(answers.map(({ url }) => url)).size, 1)
    assert.equal((await landfall.allInfos()).length, round + 1)
    const sent = await Promise.all(Array.from({ length: 3 }, () => append(answers[0].url, 0, Buffer.from('hello'))))
    assert.ok(sent.some(({ status }) => status === 204))
    assert.equal((await head(answers[0].url)).headers.get('Upload-Offset'), '5')
  }
})

test('the same creation again gives the same upload; another one is refused', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  const granted = await caller.grant({ id: 'again', filesize: 10, filename: 'granted.bin' })
  const headers = { 'Upload-Token': granted.upload_token }
  const again = (length = 10, meta = {}) =>
    begin(landfall.endpoint, length, { ...headers, 'Upload-Metadata': metadata({ note: 'one', ...meta }) })
  assert.equal((await again(11)).status, 413)
  assert.equal((await again(9)).status, 400)
  const first = await again()
  assert.equal(first.status, 201, first.text)
  assert.equal((await append(first.url, 0, Buffer.from('01234'))).status, 204)
  const second = await again()
  assert.deepEqual([second.status, second.url, second.offset], [201, first.url, '5'])

  assert.equal((await again(10, { note: 'two' })).status, 409)
  assert.equal((await again(11)).status, 409)
  assert.equal((await again(9)).status, 409)
  assert.equal((await landfall.allInfos()).length, 1)

  assert.equal((await append(first.url, 5, Buffer.from('56789'))).status, 204)
  const third = await again()
  assert.deepEqual([third.status, third.url, third.offset], [201, first.url, '10'])
  assert.equal((await caller.job('again')).state, 'completed')

  // The name that was granted is the file's name, and the grant's token none of its metadata.
  const info = await landfall.info(first.url)
  assert.equal(info.MetaData.filename, 'granted.bin')
  assert.equal(info.MetaData.note, 'one')
  assert.ok(!JSON.stringify(info).includes('lft_'))
})

test('a grant without a size: the first creation settles it', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  const granted = await caller.grant({ id: 'open', filesize: null })
  assert.equal(granted.size, null)
  const headers = { 'Upload-Token': granted.upload_token }
  const first = await begin(landfall.endpoint, 10, headers)
  assert.equal(first.status, 201, first.text)
  assert.equal((await begin(landfall.endpoint, 20, headers)).status, 409)

  const late = await caller.grant({ id: 'late', filesize: 4 })
  const deferred = await begin(landfall.endpoint, null, { 'Upload-Token': late.upload_token })
  assert.equal(deferred.status, 201, deferred.text)
  const patch = (length) => fetch(deferred.url, {
    method: 'PATCH',
    headers: { ...TUS, 'Upload-Offset': '0', 'Upload-Length': String(length), 'Content-Type': 'application/offset+octet-stream' },
    body: 'four',
  })
  assert.ok([400, 413].includes((await patch(5)).status))
  assert.equal((await patch(4)).status, 204)
  assert.equal((await caller.job('late')).state, 'completed')
})

test('every way a token can travel', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  const body = Buffer.from('all of it')
  const ways = {
    'metadata-pair': (token, id) => ({ meta: { token, upload_request_id: id } }),
    'metadata-key': (token) => ({ meta: { upload_token: token } }),
    'metadata-short': (token) => ({ meta: { token } }),
    bearer: (token) => ({ headers: { Authorization: `Bearer ${token}` } }),
    header: (token) => ({ headers: { 'Upload-Token': token } }),
  }
  for (const [id, way] of Object.entries(ways)) {
    const granted = await caller.grant({ id, filename: `${id}.txt`, filesize: body.length, filetype: 'text/plain' })
    assert.equal(granted.location, landfall.endpoint)
    assert.equal(granted.state, 'received')
    // With all bytes at once: the token is looked at before any of them is stored.
    const made = await create(granted.location, body, way(granted.upload_token, id))
    assert.equal(made.status, 201, `${id}: ${made.text}`)
    assert.equal(await landfall.sha256(made.url), sha256(body), id)
    const job = await caller.job(id)
    assert.deepEqual([job.state, job.offset, job.size, job.filename], ['completed', 9, 9, `${id}.txt`], id)
    const seen = await head(made.url)
    const stated = Buffer.from(seen.headers.get('Upload-Metadata') ?? '').toString()
    for (const name of ['token', 'upload_token']) assert.ok(!stated.split(/[ ,]/).includes(name), `${id}: ${stated}`)
  }
})

test('mode url: curl alone sends the file', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  const ask = { id: 'ready', filename: 'ready.txt', filesize: 9, mode: 'url' }
  const granted = await caller.grant(ask)
  assert.equal(granted.state, 'started')
  assert.ok(granted.upload_url.startsWith(landfall.endpoint), granted.upload_url)
  assert.equal((await caller.grant(ask)).upload_url, granted.upload_url)
  const sent = await run('curl', [
    '--silent', '--show-error', '--fail', '-X', 'PATCH', granted.upload_url, '-H', 'Tus-Resumable: 1.0.0',
    '-H', 'Upload-Offset: 0', '-H', 'Content-Type: application/offset+octet-stream', '--data-binary', 'all of it',
  ])
  assert.equal(sent.code, 0, sent.stderr)
  assert.equal(await landfall.sha256(granted.upload_url), sha256(Buffer.from('all of it')))
  assert.equal((await caller.job('ready')).state, 'completed')
  assert.equal((await landfall.allInfos()).length, 1)
})

test('tus-js-client: parallel parts under one grant', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  const data = bytes(8 * MIB + 3)
  for (const [id, carrier] of [
    ['by-header', (token) => ({ headers: { 'Upload-Token': token } })],
    ['by-metadata', (token) => ({ metadata: { token }, metadataForPartialUploads: { token } })],
  ]) {
    const granted = await caller.grant({ id, filename: 'parts.bin', filesize: data.length })
    const { url } = await uploadAll(data, {
      endpoint: granted.location,
      parallelUploads: 4,
      chunkSize: MIB,
      ...carrier(granted.upload_token),
    })
    assert.equal(await landfall.sha256(url), sha256(data))
    const job = await caller.job(id)
    assert.deepEqual([job.state, job.offset, job.size], ['completed', data.length, data.length], id)
  }
  // The parts of a second set would be more than was granted.
  const small = await caller.grant({ id: 'small', filesize: 10 })
  const part = { 'Upload-Concat': 'partial', 'Upload-Token': small.upload_token }
  assert.equal((await begin(landfall.endpoint, 6, part)).status, 201)
  assert.equal((await begin(landfall.endpoint, 6, part)).status, 413)
})

test('a token is good to start in time, and cuts off nothing that runs', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t, ['--grants-valid-for', '2s'])
  const running = await caller.grant({ id: 'running', filesize: 10 })
  const late = await caller.grant({ id: 'late', filesize: 10 })
  const begun = await begin(landfall.endpoint, 10, { 'Upload-Token': running.upload_token })
  assert.equal(begun.status, 201, begun.text)
  await sleep(Date.parse(late.expires_at) - Date.now() + 50)

  const refused = await begin(landfall.endpoint, 10, { 'Upload-Token': late.upload_token })
  assert.equal(refused.status, 410)
  assert.match(refused.text, /expired|over|late/i)
  assert.equal((await caller.ask('POST', '', { id: 'late', filename: 'a.bin', filesize: 10 })).status, 410)
  assert.equal((await append(begun.url, 0, bytes(10))).status, 204)
  assert.equal((await caller.job('running')).state, 'completed')
  assert.equal((await landfall.allInfos()).length, 1)
})

test('cancelled: the upload is gone, and its token is worth nothing', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t)
  const granted = await caller.grant({ id: 'unwanted', filesize: 10 })
  const begun = await begin(landfall.endpoint, 10, { 'Upload-Token': granted.upload_token })
  assert.equal((await append(begun.url, 0, bytes(5))).status, 204)
  const cancelled = await caller.cancel('unwanted')
  assert.deepEqual([cancelled.status, cancelled.body.state], [200, 'cancelled'])
  assert.ok([404, 410].includes((await append(begun.url, 5, bytes(5))).status))
  assert.deepEqual(await landfall.allInfos(), [])
  assert.equal((await begin(landfall.endpoint, 10, { 'Upload-Token': granted.upload_token })).status, 410)
  assert.equal((await caller.cancel('unwanted')).status, 200)
  assert.equal((await caller.ask('POST', '', { id: 'unwanted', filename: 'a.bin', filesize: 10 })).status, 410)

  // Removed by the client itself, by tus.
  const other = await caller.grant({ id: 'removed', filesize: 10 })
  const { url } = await begin(landfall.endpoint, 10, { 'Upload-Token': other.upload_token })
  assert.equal((await fetch(url, { method: 'DELETE', headers: TUS })).status, 204)
  assert.equal((await caller.job('removed')).state, 'cancelled')
})

test('quota: reserved when asked for, given back when cancelled, used when complete', { timeout: 60_000 }, async (t) => {
  const { landfall, caller } = await setUp(t, [], ['--quota', '100'])
  const ask = (id, filesize) => caller.ask('POST', '', { id, filename: 'a.bin', filesize })
  assert.equal((await ask('one', 60)).status, 201)
  const refused = await ask('two', 60)
  assert.equal(refused.status, 429)
  assert.match(refused.body.message, /60 of 100 bytes/)
  assert.ok(Number(refused.headers.get('Retry-After')) > 0)
  assert.equal((await caller.cancel('one')).status, 200)
  const second = await ask('two', 60)
  assert.equal(second.status, 201)
  await create(landfall.endpoint, bytes(60), { headers: { 'Upload-Token': second.body.upload_token } })
  assert.equal((await caller.job('two')).state, 'completed')
  assert.equal((await ask('three', 41)).status, 429)
  assert.equal((await ask('three', 40)).status, 201)
})
