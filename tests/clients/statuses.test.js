// tus-js-client and each error of the table in docs/protocol.md: what passes makes it wait and resume, and what
// is final stops it or lets it send the file from its first byte.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, request as ask } from 'node:http'
import { finished as ended } from 'node:stream/promises'
import { test } from 'node:test'

import { Receiver, raw } from '../hooks/lib/receiver.js'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { bytes, MIB, sha256 } from './lib/source.js'
import { count, prepare, until, Upload } from './lib/tus.js'

const DOCUMENT = new URL('../../docs/protocol.md', import.meta.url)
const RETRY_DELAYS = [0, 10, 10, 10]
const idOf = ({ message }) => message.Event.Upload.ID

/** The errors of the table: status, status on HEAD, and whether the same request may succeed later. */
async function table() {
  const text = await readFile(DOCUMENT, 'utf8')
  const section = text.split('\n### Errors\n')[1].split('\n### ')[0]
  const rows = [...section.matchAll(/^\| (\d+) \| `(ERR_\w+)` \| [^|]+ \| ([^|]*)\|$/gm)]
  return rows.map(([, status, code, headers]) => {
    const passes = headers.includes('Retry-After')
    return { code, status: Number(status), onHead: passes ? 423 : Number(status), passes }
  })
}

/** A proxy that answers some requests itself: the server never sees them. */
class Front {
  /** The methods and statuses of all requests. */
  requests = []
  #rules = []
  #loses = false

  static async start(t, landfall) {
    const front = new Front()
    front.target = new URL(landfall.endpoint)
    const server = createServer((request, response) => front.#pass(request, response))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    front.endpoint = `http://127.0.0.1:${server.address().port}/files/`
    return front
  }

  /** The next request with this method gets this status. */
  refuse(method, status) {
    this.#rules.push({ method, status })
  }

  /** The next creation of a final upload gets 504 at once, and the server goes on with it. */
  loseFinal() {
    this.#loses = true
  }

  async #pass(request, response) {
    const { method, url, headers } = request
    request.on('error', () => {})
    const rule = this.#rules.findIndex((one) => one.method === method)
    if (rule >= 0) {
      const [{ status }] = this.#rules.splice(rule, 1)
      this.requests.push({ method, status })
      await ended(request.resume())
      response.writeHead(status, { 'Tus-Resumable': '1.0.0', 'Retry-After': '0' }).end()
      return
    }
    let isLost = false
    if (this.#loses && headers['upload-concat']?.startsWith('final')) {
      this.#loses = false
      isLost = true
      this.requests.push({ method, status: 504 })
      response.writeHead(504).end()
    }
    const { hostname, port } = this.target
    const upstream = ask({ hostname, port, method, path: url, headers }, (answer) => {
      if (isLost) return answer.resume()
      this.requests.push({ method, status: answer.statusCode })
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    upstream.on('error', () => response.destroy())
    request.pipe(upstream)
  }
}

/** An upload through `front` in two requests; the second of `method` is refused. */
async function attempt(front, method, status) {
  const data = bytes(3000)
  front.requests = []
  let refuses = true
  const { upload, finished } = prepare(data, {
    endpoint: front.endpoint,
    chunkSize: 2000,
    retryDelays: RETRY_DELAYS,
    onChunkComplete: (_, sent) => {
      if (sent !== 2000 || !refuses) return
      refuses = false
      // A HEAD follows a PATCH that failed.
      if (method !== 'POST') front.refuse('PATCH', method === 'PATCH' ? status : 500)
      if (method === 'HEAD') front.refuse('HEAD', status)
    },
  })
  if (method === 'POST') front.refuse('POST', status)
  upload.start()
  const outcome = await finished.then(
    () => 'finished',
    () => 'gave up',
  )
  const sent = front.requests
  return { outcome, creations: count(sent, 'POST'), requests: sent, url: upload.url, sum: sha256(data) }
}

test('the client treats each error as the table says', { timeout: 120_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const front = await Front.start(t, landfall)
  const errors = await table()
  assert.ok(errors.length > 40, `${errors.length} errors`)
  for (const { code, status, onHead, passes } of errors) {
    const posted = await attempt(front, 'POST', status)
    const patched = await attempt(front, 'PATCH', status)
    const headed = await attempt(front, 'HEAD', onHead)
    // It repeats requests after these, in vain if they are final.
    const repeats = status >= 500 || status === 409 || status === 423
    // A storage that refuses waits for its operator: the client ends, and resumes when its user tries again.
    const outcome = repeats ? 'finished' : 'gave up'
    for (const [method, { outcome: found, requests }] of [
      ['POST', posted],
      ['PATCH', patched],
    ]) {
      assert.equal(found, outcome, `${code}, ${method}: ${JSON.stringify(requests)}`)
    }
    if (passes) {
      assert.equal(patched.creations, 1, `${code} on PATCH starts from zero`)
      assert.equal(headed.creations, 1, `${code} on HEAD starts from zero`)
    } else {
      assert.equal(headed.creations, 2, `${code} on HEAD makes the client wait in vain`)
    }
    assert.equal(headed.outcome, 'finished')
    assert.equal(await landfall.sha256(headed.url), headed.sum)
  }
})

test('a DELETE is repeated after what passes', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const front = await Front.start(t, landfall)
  for (const { code, status } of await table()) {
    const { url } = await attempt(front, 'POST', 503)
    front.requests = []
    front.refuse('DELETE', status)
    const removed = Upload.terminate(url, { retryDelays: RETRY_DELAYS })
    const outcome = await removed.then(
      () => true,
      () => false,
    )
    const repeats = status >= 500 || status === 409 || status === 423
    assert.equal(outcome, repeats, `${code}: ${JSON.stringify(front.requests)}`)
  }
})

/** A server with a hook that fails while `isDown()`. */
async function hooked(t, events, isDown) {
  const receiver = await Receiver.start(t, (delivery) => (isDown(delivery) ? raw(503) : {}))
  const args = ['-hooks-http', receiver.url, '-hooks-enabled-events', events, '-hooks-http-retry', '0']
  const landfall = await Landfall.start(t, { args })
  return { receiver, landfall }
}

test('pre-access is down for a while: the client waits and resumes', { timeout: 60_000 }, async (t) => {
  let down = false
  const { landfall } = await hooked(t, 'pre-access', () => down)
  const proxy = await FaultProxy.start(t, landfall)
  const data = bytes(3 * MIB)
  const { upload, requests, finished } = prepare(data, { endpoint: proxy.endpoint })
  proxy.failAfter(MIB, 'reset')
  upload.start()
  await until(() => proxy.faults === 1)
  down = true
  await until(() => requests.some(({ method, status }) => method === 'HEAD' && status === 423))
  down = false
  const url = await finished
  assert.equal(count(requests, 'POST'), 1, 'the file was sent from its first byte')
  assert.equal(await landfall.sha256(url), sha256(data))
})

/** Uploads `data` while pre-finish is down for 2.5 s; returns what was stored and sent. */
async function whileUndecided(t, data, options) {
  let downUntil = Infinity
  const isAsked = ({ hook, message }) => hook === 'pre-finish' && !message.Event.Upload.IsPartial
  const { receiver, landfall } = await hooked(
    t,
    'pre-create,pre-finish,post-finish,post-terminate',
    (delivery) => isAsked(delivery) && performance.now() < downUntil,
  )
  const proxy = await FaultProxy.start(t, landfall)
  const { upload, requests, finished } = prepare(data, { endpoint: proxy.endpoint, ...options })
  upload.start()
  await until(() => receiver.deliveries.some(isAsked))
  downUntil = performance.now() + 2500
  await finished
  const id = landfall.idOf(upload.url)
  await until(() => receiver.of('post-finish').some((delivery) => idOf(delivery) === id))
  // What was abandoned would complete when its event is looked at again: after a restart, at once.
  await landfall.stop()
  await landfall.restart()
  await until(async () => (await landfall.head(upload.url.replace(proxy.endpoint, landfall.endpoint))).status === 200)
  const infos = await landfall.allInfos()
  return { receiver, landfall, requests, infos, url: upload.url }
}

test('pre-finish is down for 2.5 s: one upload, one post-finish, each byte once', { timeout: 60_000 }, async (t) => {
  const data = bytes(3 * MIB)
  const { receiver, landfall, requests, infos, url } = await whileUndecided(t, data)
  assert.equal(count(requests, 'POST'), 1, JSON.stringify(requests))
  assert.equal(count(requests, 'PATCH'), 1, 'bytes were sent again')
  assert.equal(infos.length, 1)
  assert.equal(receiver.of('post-finish').length, 1)
  assert.equal(await landfall.sha256(url), sha256(data))
})

const WHOLE = { uploadDataDuringCreation: true }
for (const [name, data, options] of [
  ['a creation with content', bytes(100_000), WHOLE],
  ['an empty file', bytes(0), {}],
  ['a final upload', bytes(100_000), { parallelUploads: 2 }],
]) {
  test(`pre-finish is down for 2.5 s: ${name} leaves nothing that completes alone`, { timeout: 60_000 }, async (t) => {
    const { receiver, landfall, infos, url } = await whileUndecided(t, data, options)
    const whole = infos.filter(({ IsPartial }) => !IsPartial)
    assert.deepEqual(whole.map(({ ID }) => ID), [landfall.idOf(url)])
    const parts = infos.filter(({ IsPartial }) => IsPartial).map(({ ID }) => ID)
    const finished = receiver.of('post-finish').map(idOf).filter((id) => !parts.includes(id))
    assert.deepEqual(finished, [landfall.idOf(url)])
    assert.equal(await landfall.sha256(url), sha256(data))
  })
}

test('the answer to a creation with an id of the hook is lost', { timeout: 60_000 }, async (t) => {
  const receiver = await Receiver.start(t, () => ({ ChangeFileInfo: { ID: 'chosen' } }))
  const args = ['-hooks-http', receiver.url, '-hooks-enabled-events', 'pre-create']
  const landfall = await Landfall.start(t, { args })
  const proxy = await FaultProxy.start(t, landfall)
  const data = bytes(MIB)
  proxy.loseAnswerAfter(1)
  const { upload, requests, finished } = prepare(data, { endpoint: proxy.endpoint })
  upload.start()
  const url = await finished
  assert.equal(proxy.faults, 1)
  assert.deepEqual(requests.filter(({ method }) => method === 'POST').map(({ status }) => status), [201])
  assert.equal((await landfall.allInfos()).length, 1)
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('the answer to the final request of a parallel upload is lost', { timeout: 60_000 }, async (t) => {
  const receiver = await Receiver.start(t)
  const args = ['-hooks-http', receiver.url, '-hooks-enabled-events', 'pre-create,post-finish']
  const landfall = await Landfall.start(t, { args })
  const front = await Front.start(t, landfall)
  const data = bytes(MIB)
  front.loseFinal()
  const { upload, finished } = prepare(data, {
    endpoint: front.endpoint,
    parallelUploads: 2,
    retryDelays: RETRY_DELAYS,
    metadata: { filename: 'whole' },
  })
  upload.start()
  const url = await finished
  assert.ok(front.requests.some(({ status }) => status === 504))
  const whole = (await landfall.allInfos()).filter(({ IsFinal }) => IsFinal)
  assert.deepEqual(whole.map(({ ID }) => ID), [landfall.idOf(url)])
  await until(() => receiver.of('post-finish').some((delivery) => idOf(delivery) === landfall.idOf(url)))
  assert.equal(await landfall.sha256(url), sha256(data))
})
