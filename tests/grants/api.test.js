// The grant API conforms to docs/grants-api.yaml.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import Ajv from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { parse } from 'yaml'
import { until } from '../clients/lib/tus.js'
import { create } from '../hooks/lib/start.js'
import { Listener } from './lib/listener.js'
import { addKey, Caller, KEY, keys, withGrants } from './lib/queue.js'

const ROOT = new URL('../../', import.meta.url)
const described = parse(await readFile(new URL('docs/grants-api.yaml', ROOT), 'utf8'))

const ajv = new Ajv({ strict: false, allErrors: true })
formats(ajv)
ajv.addSchema({ $id: 'api', components: described.components })

/** Validates a value against a schema of the description. */
function check(value, schema) {
  const isValid = ajv.validate({ $ref: `api#/components/schemas/${schema}` }, value)
  assert.ok(isValid, `${schema}: ${ajv.errorsText()}\n${JSON.stringify(value, null, 1)}`)
  return value
}

/** Sends a request and validates the response against the schema of its operation and status. */
async function request(caller, method, path, status, body, headers) {
  const answer = await caller.ask(method, path, body, headers)
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`)
  const [bare] = path.split('?')
  const template = { '': '/', '/events': '/events', '/link': '/link' }[bare] ?? '/{request_id}'
  let response = described.paths[template][method.toLowerCase()].responses[status]
  assert.ok(response, `${method} ${template} does not document ${status}`)
  if (response.$ref) response = described.components.responses[response.$ref.split('/').at(-1)]
  const [[type, { schema }]] = Object.entries(response.content)
  assert.equal(answer.type.split(';')[0], type)
  return check(answer.body, schema.$ref.split('/').at(-1))
}

const FILE = { filename: 'a.bin', filesize: 5, filetype: 'text/plain' }

test('the description contains exactly the existing routes', async () => {
  const source = await readFile(new URL('crates/access/src/grants/api/mod.rs', ROOT), 'utf8')
  const table = [...source.matchAll(/^\/\/! \| `([A-Z]+) \/uploadjobs(\S*)` \|/gm)]
  const routes = table.map(([, method, path]) => `${method.toLowerCase()} ${path || '/'}`)
  const said = Object.entries(described.paths).flatMap(([path, item]) =>
    Object.keys(item).filter((key) => key !== 'parameters').map((method) => `${method} ${path}`))
  assert.deepEqual(routes.toSorted(), said.toSorted())
  assert.ok(said.length >= 5, said.join())
})

test('responses match the schemas exactly', { timeout: 60_000 }, async (t) => {
  const landfall = await withGrants(t)
  const ann = Caller.withKey(landfall.endpoint, await addKey(landfall, 'ann'))
  const admin = Caller.withKey(landfall.endpoint, await addKey(landfall, 'ops', ['--admin']))
  const listener = await Listener.open(t, ann)

  const grant = await request(ann, 'POST', '', 201, { ...FILE, id: '1', album: { id: 7 } })
  assert.match(grant.upload_token, /^lft_/)
  const again = await request(ann, 'POST', '', 200, { ...FILE, id: '1', album: { id: 7 } })
  assert.notEqual(again.upload_token, grant.upload_token)
  await request(ann, 'POST', '', 409, { ...FILE, id: '1', filesize: 6 })
  const withUrl = await request(ann, 'POST', '', 201, { ...FILE, id: '2', mode: 'url' })
  assert.equal(withUrl.upload_token, null)
  assert.ok(withUrl.upload_url)

  await create(landfall.endpoint, Buffer.from('hello'), { headers: { 'Upload-Token': again.upload_token } })
  await until(async () => (await ann.job('1')).state === 'completed')
  const done = await request(ann, 'GET', '/1', 200)
  assert.deepEqual([done.offset, done.metadata], [5, { album: { id: 7 } }])
  assert.equal('subject' in done, false)
  await request(ann, 'DELETE', '/1', 409)
  const cancelled = await request(ann, 'DELETE', '/2', 200)
  assert.equal(cancelled.state, 'cancelled')
  assert.deepEqual(await request(ann, 'DELETE', '/2', 200), cancelled)
  await request(ann, 'POST', '', 410, { ...FILE, id: '2', mode: 'url' })

  assert.equal((await request(ann, 'GET', '?state=completed', 200)).length, 1)
  assert.deepEqual((await request(admin, 'GET', '', 200)).map(({ subject }) => subject), ['ann', 'ann'])
  await request(ann, 'GET', '/none', 404)
  await request(ann, 'DELETE', '/none', 404)
  await request(ann, 'GET', '?subject=bob', 403)
  await request(ann, 'GET', '?limit=0', 422)
  const invalid = await request(ann, 'POST', '', 422, { id: '', filesize: -1 })
  assert.deepEqual(Object.keys(invalid.errors).toSorted(), ['filename', 'filesize', 'id'])
  await request(ann, 'POST', '', 415, FILE, { 'Content-Type': 'text/plain' })
  await request(ann, 'POST', '', 413, { ...FILE, id: '3', more: 'x'.repeat(70_000) })
  const nobody = new Caller(landfall.endpoint)
  for (const [method, path] of [['GET', ''], ['POST', ''], ['GET', '/1'], ['DELETE', '/1'], ['GET', '/events']]) {
    await request(nobody, method, path, 401, method === 'POST' ? FILE : undefined)
  }

  const { stdout } = await keys(landfall, ['--files', '1'], [], 'link')
  const people = Caller.withKey(landfall.endpoint, KEY.exec(stdout)[0])
  assert.equal((await request(people, 'GET', '/link', 200)).max_files, 1)
  await request(people, 'POST', '', 201, { ...FILE, id: '1' })
  await request(people, 'POST', '', 403, { ...FILE, id: '2' })
  await request(people, 'GET', '/1', 403)

  await until(() => listener.of('2').some(({ event }) => event === 'UploadCancelled'))
  for (const { event, data } of listener.events) {
    assert.equal(check(data, 'Event').type, event)
  }
  assert.ok(listener.of('1').some(({ event }) => event === 'UploadCompleted'))
})

test('limits and a replaced database match the schemas', { timeout: 60_000 }, async (t) => {
  const landfall = await withGrants(t)
  const key = await addKey(landfall, 'ann', ['--rate-limit', '1/1h'])
  const ann = Caller.withKey(landfall.endpoint, key)
  await request(ann, 'POST', '', 201, { ...FILE, id: '1' })
  const limited = await request(ann, 'POST', '', 429, { ...FILE, id: '2' })
  assert.match(limited.detail, /rate limit/)
  const listener = await Listener.open(t, ann, { lastId: '999999' })
  await until(() => listener.events.length > 0)
  const [{ event, data }] = listener.events
  assert.equal(event, 'reset')
  assert.equal(check(data, 'Event').uploads.length, 1)
})
