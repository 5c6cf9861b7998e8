// A page without a library: it asks for a signature, PUTs the file with progress, and then tells the server, or
// the bucket does, or nobody.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MIB, sha256, sourceFile } from '../clients/lib/source.js'
import { Listener } from '../grants/lib/listener.js'
import { object, objects } from '../nodes/lib/bucket.js'
import { addCaller, openWith, startDirect, startWorld } from './lib/setup.js'

const TIMEOUT = { timeout: 120_000 }
const SECRET = 'a-secret-of-the-bucket-and-the-server'
/** For tests that must not be overtaken by the server's own look. */
const SELDOM = ['-sweep-interval', '10h']

test('a plain page', async (t) => {
  const world = await startWorld(t)
  const { place, front } = world
  const often = await startDirect(t, world)
  const seldom = await startDirect(t, world, [...SELDOM, '-direct-notifications-secret', SECRET])
  let people = 0

  /** Somebody new sends a file by the page; gives what the page says in the end. */
  async function send(t, landfall, settings, source, args) {
    people += 1
    front.reset()
    const caller = await addCaller(landfall, `somebody-${people}`, args)
    const listener = await Listener.open(t, caller)
    const { page, preflights, asked } = await openWith(t, world, 'page/plain.html', {
      server: landfall.origin, token: caller.key, ...settings,
    })
    await page.getByLabel('File').setInputFiles(source.path)
    await page.waitForFunction(() => document.querySelector('output').textContent !== '')
    const result = JSON.parse(await page.locator('output').textContent())
    return { caller, listener, page, preflights, asked, result }
  }

  const keyOf = (url) => decodeURIComponent(new URL(url).pathname).replace(`/${place.bucket}/`, '')

  await t.test('with progress, and completion that is told', TIMEOUT, async (t) => {
    const source = await sourceFile(t, 12 * MIB, { name: 'My  Holiday.PNG' })
    const { caller, listener, page, preflights, asked, result } = await send(t, seldom, { complete: true, size: source.size }, source)
    assert.deepEqual([result.name, result.type, result.size], ['My  Holiday.PNG', 'image/png', source.size], JSON.stringify(result))
    const key = keyOf(result.uri)
    assert.match(key, /^uploads\/[0-9a-f-]{36}\/my__holiday\.png$/)
    const { etag, location, ...done } = result.done
    assert.deepEqual(done, { state: 'completed', key, size: source.size })
    assert.equal(location, result.uri)
    const { data, headers } = await object(place, key)
    assert.equal(sha256(data), source.sha256)
    assert.equal(headers.get('Content-Type'), 'image/png')
    assert.equal(headers.get('ETag'), etag)

    const [job, ...others] = await caller.all()
    assert.deepEqual([job.state, job.size, job.offset, others], ['completed', source.size, source.size, []])
    await listener.heard(job.request_id, 'UploadCompleted')
    assert.deepEqual(listener.story(job.request_id), ['UploadStarted', 'UploadCompleted'])
    const progress = await page.evaluate(() => window.progress)
    assert.equal(progress.at(-1), source.size)
    assert.deepEqual(asked.map(({ method, path, status }) => [method, path, status]), [
      ['POST', '/api/sign_s3', 200], ['POST', '/api/complete_s3', 200],
    ])
    assert.ok(preflights.some(({ url }) => url.startsWith(front.endpoint)), 'the bucket was asked by a preflight')

    // Said again: the same again, and no second event.
    const again = await caller.api.ask('POST', 'api/complete_s3', { key })
    assert.deepEqual(again.body, result.done)
    assert.deepEqual(listener.story(job.request_id), ['UploadStarted', 'UploadCompleted'])
  })

  await t.test('told by nobody: the server looks', TIMEOUT, async (t) => {
    const source = await sourceFile(t, 100_000, { name: 'silent.txt' })
    const { caller, listener, result } = await send(t, often, { complete: false }, source)
    const [{ request_id: id }] = await caller.all()
    await listener.heard(id, 'UploadCompleted')
    const job = await caller.job(id)
    assert.deepEqual([job.state, job.size], ['completed', source.size])
    assert.equal(sha256((await object(place, keyOf(result.uri))).data), source.sha256)
  })

  await t.test('told by the bucket', TIMEOUT, async (t) => {
    const source = await sourceFile(t, 100_000, { name: 'a file & more.txt' })
    const { caller, listener, result } = await send(t, seldom, { complete: false }, source)
    const [{ request_id: id, state }] = await caller.all()
    assert.equal(state, 'started')
    const key = encodeURIComponent(keyOf(result.uri)).replaceAll('%20', '+')
    const event = {
      Records: [{
        eventVersion: '2.1', eventSource: 'aws:s3', eventName: 'ObjectCreated:Put',
        s3: { bucket: { name: place.bucket }, object: { key, size: source.size } },
      }],
    }
    const tell = (secret) => fetch(`${seldom.origin}/api/s3_events`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(secret ? { Authorization: `Bearer ${secret}` } : {}) },
      body: JSON.stringify(event),
    })
    assert.equal((await tell('not the secret')).status, 401)
    assert.equal((await tell()).status, 401)
    assert.equal((await caller.job(id)).state, 'started')
    assert.equal((await tell(SECRET)).status, 200)
    await listener.heard(id, 'UploadCompleted')
    assert.equal((await tell(SECRET)).status, 200)
    assert.deepEqual(listener.story(id), ['UploadStarted', 'UploadCompleted'])
  })

  await t.test('another size or type than was signed: the bucket refuses', TIMEOUT, async (t) => {
    const before = await objects(place)
    // Small enough to be sent before the bucket answers: it closes the connection on what it refuses,
    // and a browser that is still sending then doesn't see why.
    const source = await sourceFile(t, 4_000, { name: 'other.txt' })
    for (const lie of [{ size: 3_999 }, { type: 'text/html' }]) {
      const { caller, result } = await send(t, seldom, { complete: true, ...lie }, source)
      assert.match(result.message, /^S3 (said 403|could not be reached)$/)
      const [{ state }] = await caller.all()
      assert.equal(state, 'started')
    }
    assert.deepEqual(await objects(place), before)
  })

  await t.test('refused by the rules: the page says why', TIMEOUT, async (t) => {
    const source = await sourceFile(t, 100_000, { name: 'large.txt' })
    const large = await send(t, seldom, { size: source.size }, source, ['--max-size', '50KB'])
    assert.match(large.result.message, /50000|50 KB|50,000|large/i)
    const typed = await send(t, seldom, {}, source, ['--allowed-types', 'image/*'])
    assert.match(typed.result.message, /text\/plain|type/)
    for (const { caller } of [large, typed]) assert.deepEqual(await caller.all(), [])
  })
})
