// The direct upload API conforms to docs/direct-api.yaml.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { bytes, MIB } from '../clients/lib/source.js'
import { Caller } from '../grants/lib/queue.js'
import { startGarage } from '../nodes/lib/services.js'
import { check, described, ROOT } from './lib/description.js'
import { addCaller, startDirect } from './lib/setup.js'

const SECRET = 'a-secret-of-the-bucket-and-the-server'

/** Sends a request and validates the response against the schema of its operation and status. */
async function request(caller, template, method, path, status, body, headers) {
  const answer = await caller.ask(method, path, body, headers)
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`)
  const { responses } = described.paths[template][method.toLowerCase()]
  let response = responses[status] ?? responses.default
  if (response.$ref) response = described.components.responses[response.$ref.split('/').at(-1)]
  if (!response.content) return assert.equal(answer.text, '')
  const [[type, { schema }]] = Object.entries(response.content)
  assert.equal(answer.type.split(';')[0], type)
  return check(answer.body, schema.$ref.split('/').at(-1))
}

const put = async (url, data, headers = {}) => {
  const response = await fetch(url, { method: 'PUT', body: data, headers })
  assert.equal(response.status, 200, await response.text())
  return response.headers.get('ETag')
}

test('the description contains exactly the existing routes', async () => {
  const source = await readFile(new URL('crates/direct/src/api/mod.rs', ROOT), 'utf8')
  const routes = [...source.matchAll(/^\/\/! \| `([A-Z]+) (\/(?:api|s3)\/\S*)` \|/gm)]
  const said = Object.entries(described.paths).flatMap(([path, item]) =>
    Object.keys(item).filter((key) => key !== 'parameters').map((method) => `${method} ${path}`))
  assert.deepEqual(routes.map(([, method, path]) => `${method.toLowerCase()} ${path}`).toSorted(), said.toSorted())
  assert.ok(said.length >= 13, said.join())
})

test('responses match the schemas exactly', { timeout: 120_000 }, async (t) => {
  const place = await startGarage(t)
  const world = { place, front: place, origin: 'https://app.example' }
  const landfall = await startDirect(t, world, ['-direct-notifications-secret', SECRET])
  const { api } = await addCaller(landfall, 'ann')

  await t.test('a presigned PUT', async () => {
    const file = { file_name: 'My File.PDF', file_type: 'application/pdf', file_size: 5, metadata: { album: '7' } }
    const signed = await request(api, '/api/sign_s3', 'POST', 'api/sign_s3', 200, file)
    const { url } = signed
    await request(api, '/api/complete_s3', 'POST', 'api/complete_s3', 409, { url })
    await request(api, '/api/progress_s3', 'POST', 'api/progress_s3', 204, { url, uploaded: 2 })
    await put(signed.signed_request, Buffer.from('hello'), { 'Content-Type': signed.file_type, ...signed.headers })
    const done = await request(api, '/api/complete_s3', 'POST', 'api/complete_s3', 200, { url })
    assert.deepEqual([done.size, done.location], [5, url])
    const invalid = await request(api, '/api/sign_s3', 'POST', 'api/sign_s3', 400, { file_name: 'a', file_size: -1 })
    assert.deepEqual([invalid.statusCode, invalid.field], [400, 'file_size'])
    await request(api, '/api/complete_s3', 'POST', 'api/complete_s3', 404, { key: 'none' })
  })

  await t.test('a presigned PUT with its headers', async () => {
    const file = { file_name: 'a.txt', file_type: 'text/plain', file_size: 5 }
    const signed = await request(api, '/api/sign', 'POST', 'api/sign', 200, file)
    const { url } = signed
    await request(api, '/api/progress', 'POST', 'api/progress', 204, { url, uploaded: 2 })
    await put(signed.signed_request, Buffer.from('hello'), signed.headers)
    const done = await request(api, '/api/complete', 'POST', 'api/complete', 200, { url })
    assert.equal(done.size, 5)
    await request(api, '/api/sign', 'POST', 'api/sign', 501, { ...file, resumable: true })
  })

  await t.test('a small file', async () => {
    const form = await request(api, '/s3/params', 'GET', 's3/params?filename=a.png&type=image/png&metadata[a]=1', 200)
    assert.equal(form.method, 'POST')
    assert.ok(form.fields.policy)
    const invalid = await request(api, '/s3/params', 'GET', 's3/params', 400)
    assert.equal(invalid.field, 'filename')
  })

  await t.test('a multipart upload', async () => {
    const file = { filename: 'large.bin', type: 'application/x-test', size: 6 * MIB }
    const made = await request(api, '/s3/multipart', 'POST', 's3/multipart', 200, file)
    assert.equal(made.bucket, place.bucket)
    const at = `s3/multipart/${encodeURIComponent(made.uploadId)}`
    const query = `?key=${encodeURIComponent(made.key)}`
    const one = await request(api, '/s3/multipart/{id}/{number}', 'GET', `${at}/1${query}`, 200)
    const more = await request(api, '/s3/multipart/{id}/batch', 'GET', `${at}/batch${query}&partNumbers=1,2`, 200)
    assert.deepEqual(Object.keys(more.presignedUrls), ['1', '2'])
    const parts = [
      { PartNumber: 1, ETag: await put(one.url, bytes(5 * MIB, 1)) },
      { PartNumber: 2, ETag: await put(more.presignedUrls[2], bytes(MIB, 2)) },
    ]
    const listed = await request(api, '/s3/multipart/{id}', 'GET', `${at}${query}`, 200)
    assert.deepEqual(listed.map(({ Size }) => Size), [5 * MIB, MIB])
    await request(api, '/s3/multipart/{id}/complete', 'POST', `${at}/complete${query}`, 400, { parts: 7 })
    const done = await request(api, '/s3/multipart/{id}/complete', 'POST', `${at}/complete${query}`, 200, { parts })
    assert.equal(done.key, made.key)
    await request(api, '/s3/multipart/{id}/{number}', 'GET', `${at}/0${query}`, 400)
    const other = await request(api, '/s3/multipart', 'POST', 's3/multipart', 200, { ...file, filename: 'other.bin' })
    const path = `s3/multipart/${encodeURIComponent(other.uploadId)}?key=${encodeURIComponent(other.key)}`
    await request(api, '/s3/multipart/{id}', 'DELETE', path, 200)
    await request(api, '/s3/multipart/{id}', 'GET', path, 410)
  })

  await t.test('signed requests', async () => {
    const sign = (status, body) => request(api, '/s3/presign', 'POST', 's3/presign', status, body)
    const form = await sign(200, { method: 'PUT', key: 'a.png', contentType: 'image/png' })
    assert.ok(form.fields.key.endsWith(form.key), form.key)
    assert.ok((await sign(200, { method: 'PUT', key: 'b.png' })).url)
    assert.ok((await sign(200, { method: 'POST', key: 'c.png', expiresIn: 60 })).url)
    await sign(403, { method: 'DELETE', key: 'a.png' })
    await sign(400, { method: 'PATCH', key: 'a.png' })
  })

  await t.test('notifications, and who may not', async () => {
    const bucket = new Caller(landfall.origin, { Authorization: `Bearer ${SECRET}` }, '/')
    const notification = { EventName: 's3:ObjectCreated:Put', Key: `${place.bucket}/none` }
    const got = await request(bucket, '/api/s3_events', 'POST', 'api/s3_events', 200, notification)
    assert.deepEqual(got, { received: 1, matched: 0 })
    await request(api, '/api/s3_events', 'POST', 'api/s3_events', 401, notification)
    await request(api, '/s3/sts', 'GET', 's3/sts', 404)
    const nobody = new Caller(landfall.origin, {}, '/')
    await request(nobody, '/api/sign', 'POST', 'api/sign', 401, { file_name: 'a' })
    await request(nobody, '/api/sign_s3', 'POST', 'api/sign_s3', 401, { file_name: 'a' })
    await request(nobody, '/s3/params', 'GET', 's3/params?filename=a', 401)
    await request(nobody, '/s3/presign', 'POST', 's3/presign', 401, { method: 'PUT', key: 'a' })
  })
})
