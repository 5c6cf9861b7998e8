// What people do with Uppy's Dashboard, and what must come of it.

import assert from 'node:assert/strict'
import { MIB, sha256, sourceFile } from '../../clients/lib/source.js'
import { until } from '../../clients/lib/tus.js'
import { add, startUpload } from '../../clients/lib/uppy.js'
import { Listener } from '../../grants/lib/listener.js'
import { multiparts, object, objects } from '../../nodes/lib/bucket.js'
import { failed, named, openClient, press, remembered, retry, said, succeeded } from './clients.js'
import { addCaller } from './setup.js'

/** What somebody does with a client of a landfall, from an empty Dashboard on; each is for a test of its own. */
export function flows(world, landfall, client) {
  const { place, front } = world
  let people = 0

  /** Somebody new with an open page. */
  async function setUp(t) {
    people += 1
    const others = await multiparts(place)
    const caller = await addCaller(landfall, named(`${client.name} ${people}`))
    front.reset()
    const listener = await Listener.open(t, caller)
    return { caller, listener, others, ...(await openClient(t, world, landfall, client, caller.key)) }
  }

  /** The object of somebody's only upload, byte for byte, and its row. */
  async function arrived({ caller, listener }, { key, uploadURL }, source) {
    const [{ request_id: id }, ...others] = await caller.all()
    assert.deepEqual(others, [])
    // Whose client told nobody that it is done: the server looks by itself.
    await listener.heard(id, 'UploadCompleted')
    assert.deepEqual(listener.story(id), ['UploadStarted', 'UploadCompleted'])
    const job = await caller.job(id)
    assert.deepEqual([job.state, job.size, job.offset], ['completed', source.size, source.size])
    // All that the signer is told of a file is the key that its client wants.
    if (client.mode === 'signer') assert.ok(job.filename.endsWith(source.name), job.filename)
    else assert.equal(job.filename, source.name)
    // Sent by PUT, Uppy 4 and 5 know only where it went.
    const path = decodeURIComponent(new URL(uploadURL, front.endpoint).pathname)
    const { data, headers } = await object(place, key ?? path.replace(`/${place.bucket}/`, ''))
    assert.equal(sha256(data), source.sha256)
    return { job, headers }
  }

  /** A small file. */
  async function small(t) {
    const { page, calls, caller, listener } = await setUp(t)
    const source = await sourceFile(t, 40_000, { name: 'süß & small.png' })
    await add(page, [source])
    await startUpload(page)
    const result = await succeeded(page, source)
    const { headers, job } = await arrived({ caller, listener }, result, source)
    assert.equal(job.filetype, 'image/png')
    assert.equal(headers.get('Content-Type'), 'image/png')
    // Garage's form answers with a path alone as the Location, which Uppy 4 and 5 pass on.
    const { pathname } = new URL(result.uploadURL, front.endpoint)
    assert.ok(decodeURIComponent(pathname).endsWith(result.key ?? source.name), result.uploadURL)
    // One question, and one request to the bucket.
    assert.deepEqual(calls(), [client.ask])
    const sent = front.requests.filter(({ method }) => method !== 'OPTIONS')
    assert.equal(sent.length, 1)
    assert.match(`${sent[0].method} ${sent[0].status}`, /^(POST 201|PUT 200)$/)
  }

  /** 60 MiB in parts, two of which fail. */
  async function inParts(t) {
    const { page, asked, calls, caller, listener, others } = await setUp(t)
    const source = await sourceFile(t, 60 * MIB, { name: 'holiday.mp4' })
    front.fail(3, 503)
    // A client that has nothing signed again by itself needs somebody who presses a button.
    front.fail(7, client.patient ? 500 : 403)
    const held = front.hold(9)
    await add(page, [source])
    await startUpload(page)
    if (!client.patient) {
      await failed(page, source)
      await retry(page)
    }
    await held.reached()
    const [{ request_id: id }] = await caller.all()
    await listener.heard(id, 'UploadProgress')
    held.release()
    const result = await succeeded(page, source)
    const { headers } = await arrived({ caller, listener }, result, source)
    assert.equal(headers.get('Content-Type'), 'video/mp4')
    const offsets = listener.of(id).map(({ data }) => data.upload.offset)
    assert.deepEqual(offsets, offsets.toSorted((a, b) => a - b))
    assert.deepEqual(await multiparts(place), others)

    assert.equal(calls()[0], client.begin)
    // Every part was sent once, and the two that failed again.
    assert.deepEqual(front.stored().toSorted((a, b) => a - b), Array.from({ length: 12 }, (_, i) => i + 1))
    for (const part of [3, 7]) assert.deepEqual(front.parts(part).map(({ status }) => status)[1], 200, `part ${part}`)
    if (client.mode === 'companion') {
      const signed = (part) => asked.filter(({ path }) => path.endsWith(`/${part}`)).length
      assert.equal(signed(7), 2)
      assert.equal(signed(3), client.patient ? 2 : 1)
      assert.equal(signed(1), 1)
    }
  }

  /** Pause and resume. */
  async function paused(t) {
    const { page, calls, caller, listener } = await setUp(t)
    const source = await sourceFile(t, 32 * MIB, { name: 'paused.bin' })
    const held = front.hold(4)
    await add(page, [source])
    await startUpload(page)
    await held.reached()
    await until(() => front.stored().length === 3)
    await press(page, 'Pause')
    await until(() => front.parts().every(({ status, gone }) => status || gone))
    const before = front.parts().length
    held.release()
    await press(page, 'Resume')
    const result = await succeeded(page, source)
    await arrived({ caller, listener }, result, source)
    assert.equal(calls().filter((call) => call === client.begin && client.mode === 'companion').length, client.mode === 'companion' ? 1 : 0)
    // It asked for what is there, and sent only what isn't.
    assert.equal(front.parts().length - before, 7 - 3)
    for (const part of [1, 2, 3]) assert.equal(front.parts(part).length, 1)
  }

  /** Reload and resume. */
  async function reloaded(t) {
    const { page, caller, listener } = await setUp(t)
    const source = await sourceFile(t, 32 * MIB, { name: 'reloaded.bin' })
    const held = front.hold(4)
    await add(page, [source])
    await startUpload(page)
    await held.reached()
    await until(() => front.stored().length === 3)
    const [before] = await caller.all()
    await remembered(page)
    await page.reload()
    held.release()
    await page.locator('.uppy-Dashboard-Item', { hasText: source.name }).waitFor()
    await startUpload(page)
    const result = await succeeded(page, source)
    const { job } = await arrived({ caller, listener }, result, source)
    assert.equal(job.request_id, before.request_id)
    for (const part of [1, 2, 3]) assert.equal(front.parts(part).length, 1)
  }

  /** Removed in the middle. */
  async function removed(t) {
    const { page, caller, listener, others } = await setUp(t)
    const source = await sourceFile(t, 32 * MIB, { name: 'unwanted.bin' })
    const before = await objects(place)
    const held = front.hold(4)
    await add(page, [source])
    await startUpload(page)
    await held.reached()
    assert.equal((await multiparts(place)).length, others.length + 1)
    await page.locator('.uppy-Dashboard-Item-action--remove').click()
    const [{ request_id: id }] = await caller.all()
    await listener.heard(id, 'UploadCancelled')
    await until(async () => (await multiparts(place)).length === others.length)
    held.release()
    assert.equal((await caller.job(id)).state, 'cancelled')
    assert.deepEqual(await objects(place), before)
    assert.deepEqual(await said(page).then((all) => all.filter(({ event }) => event !== 'part')), [])
  }

  return { small, inParts, paused, reloaded, removed }
}
