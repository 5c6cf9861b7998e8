// tus-js-client whose last request is cut while the application still decides by pre-finish.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Receiver } from '../hooks/lib/receiver.js'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { bytes, MIB, sha256 } from './lib/source.js'
import { count, prepare, until } from './lib/tus.js'

/** A server whose pre-finish hook waits for `decide(answer)`. */
async function deciding(t) {
  let decide
  const decision = new Promise((resolve) => (decide = resolve))
  const receiver = await Receiver.start(t, () => decision)
  const landfall = await Landfall.start(t, {
    args: ['-hooks-http', receiver.url, '-hooks-enabled-events', 'pre-finish'],
  })
  const proxy = await FaultProxy.start(t, landfall)
  return { landfall, proxy, receiver, decide }
}

test('readers wait while pre-finish decides, and so does the client that was cut', { timeout: 60_000 }, async (t) => {
  const { landfall, proxy, receiver, decide } = await deciding(t)
  const data = bytes(3 * MIB)
  const { upload, requests, finished } = prepare(data, { endpoint: proxy.endpoint })
  upload.start()
  await until(() => receiver.of('pre-finish').length > 0)
  proxy.failNow('reset')

  const { url } = upload
  const own = url.replace(proxy.endpoint, landfall.endpoint)
  const got = await fetch(own, { headers: { 'Tus-Resumable': '1.0.0' } })
  await got.arrayBuffer()
  assert.equal(got.status, 423)
  assert.match(got.headers.get('Retry-After') ?? '', /^\d+$/)
  const head = await landfall.head(own)
  assert.equal(head.status, 200)
  assert.ok(head.offset < data.length, `${head.offset}`)
  // The client has come back, and waits.
  await until(() => requests.some(({ method, status }) => method === 'HEAD' && status === 200))
  decide({})

  assert.equal(await finished, url)
  assert.equal(count(requests, 'POST'), 1)
  assert.equal(receiver.of('pre-finish').length, 1, 'it was decided once')
  assert.equal(await landfall.sha256(own), sha256(data))
})

test('an upload that pre-finish refuses is never complete for anybody', { timeout: 60_000 }, async (t) => {
  const { landfall, proxy, receiver, decide } = await deciding(t)
  const { upload, finished } = prepare(bytes(MIB), { endpoint: proxy.endpoint, retryDelays: null })
  upload.start()
  await until(() => receiver.of('pre-finish').length > 0)
  decide({ RejectUpload: true, HTTPResponse: { StatusCode: 422, Body: 'not this one' } })

  await assert.rejects(finished, /422.*not this one/s)
  const own = upload.url.replace(proxy.endpoint, landfall.endpoint)
  const response = await fetch(own, { headers: { 'Tus-Resumable': '1.0.0' } })
  assert.equal(response.status, 422)
  assert.equal(await response.text(), 'not this one')
})
