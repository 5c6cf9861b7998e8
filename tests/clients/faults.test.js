// tus-js-client in Node while the server dies and the network breaks.

import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { bytes, MIB, randomNumbers, sha256, sourceFile } from './lib/source.js'
import { CHUNK, count, pause, prepare, until, uploadAll } from './lib/tus.js'

for (const durability of ['none', 'complete', 'every']) {
  test(`the server is killed in the middle, durability ${durability}`, { timeout: 90_000 }, async (t) => {
    const landfall = await Landfall.start(t, { args: ['--durability', durability] })
    const proxy = await FaultProxy.start(t, landfall)
    proxy.bytesPerSecond = 20 * MIB
    const source = await sourceFile(t, 24 * MIB)
    const { upload, requests, finished } = prepare(createReadStream(source.path), {
      endpoint: proxy.endpoint,
    })

    upload.start()
    for (let kill = 0; kill < 2; kill += 1) {
      await proxy.whenPassed(6 * MIB)
      await landfall.kill()
      // The client meets a closed port, as it does while a machine starts.
      await sleep(300)
      await landfall.restart()
      // The client resumes without help; this only waits for it.
      await until(() => count(requests, 'HEAD') > kill)
    }
    const url = await finished

    assert.equal(count(requests, 'POST'), 1, 'the upload was never started again')
    const resumedAt = requests.filter(({ method }) => method === 'HEAD').map(({ offset }) => Number(offset))
    assert.ok(resumedAt.at(-1) > 0, `resumed at ${resumedAt}`)
    assert.equal(await landfall.sha256(url), source.sha256)
  })
}

test('the server is killed between chunks of several uploads', { timeout: 90_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 8 * MIB
  const sources = [1, 2, 3, 4].map((seed) => bytes(5 * CHUNK, seed))
  const uploads = sources.map((data) =>
    prepare(data, { endpoint: proxy.endpoint, chunkSize: CHUNK }),
  )
  for (const { upload } of uploads) upload.start()

  await proxy.whenPassed(12 * MIB)
  await landfall.kill()
  await landfall.restart()

  for (const [n, { finished }] of uploads.entries()) {
    const url = await finished
    assert.equal(await landfall.sha256(url), sha256(sources[n]))
  }
})

test('a server asked to stop keeps what it has received', { timeout: 90_000 }, async (t) => {
  const landfall = await Landfall.start(t, { args: ['-shutdown-timeout', '500ms'] })
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 4 * MIB
  const source = await sourceFile(t, 16 * MIB)
  const { upload, requests, finished } = prepare(createReadStream(source.path), {
    endpoint: proxy.endpoint,
  })
  upload.start()
  await proxy.whenPassed(4 * MIB)
  await landfall.stop()
  const kept = await landfall.storedBytes(upload.url)
  assert.ok(kept > MIB, `kept ${kept} bytes`)

  await landfall.restart()
  proxy.bytesPerSecond = Infinity
  const url = await finished
  const head = requests.find(({ method, status }) => method === 'HEAD' && status === 200)
  assert.equal(Number(head.offset), kept)
  assert.equal(await landfall.sha256(url), source.sha256)
})

for (const kind of ['reset', 'close', 'half-open']) {
  test(`the connection breaks (${kind})`, { timeout: 60_000 }, async (t) => {
    const landfall = await Landfall.start(t)
    const proxy = await FaultProxy.start(t, landfall)
    const source = await sourceFile(t, 16 * MIB)
    const { upload, requests, finished } = prepare(createReadStream(source.path), {
      endpoint: proxy.endpoint,
    })

    proxy.failAfter(5 * MIB + 321, kind)
    upload.start()
    await until(() => proxy.faults === 1)
    const broken = performance.now()
    const url = await finished
    const healed = performance.now() - broken

    assert.equal(count(requests, 'POST'), 1)
    const head = requests.find(({ method }) => method === 'HEAD')
    // A reset destroys what the server has not read yet; how much that is depends on the machine.
    assert.ok(Number(head.offset) > 0, `resumed at ${head.offset}`)
    assert.equal(await landfall.sha256(url), source.sha256)
    // A server that waits for the dead connection to time out needs 60 s.
    assert.ok(healed < 10_000, `took ${healed} ms to go on`)
  })
}

test('a half-open connection hands its upload over at once', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const data = bytes(4 * MIB)
  const { upload, finished } = prepare(data, { endpoint: proxy.endpoint, retryDelays: null })
  proxy.failAfter(2 * MIB, 'half-open')
  upload.start()
  await assert.rejects(finished)
  const { offset } = await landfall.head(upload.url)
  assert.ok(offset > 0)

  // The server still waits for the rest on the dead connection.
  const before = performance.now()
  const { pathname } = new URL(upload.url)
  const response = await fetch(new URL(pathname, landfall.endpoint), {
    method: 'PATCH',
    headers: {
      'Tus-Resumable': '1.0.0',
      'Upload-Offset': String(offset),
      'Content-Type': 'application/offset+octet-stream',
    },
    body: data.subarray(offset),
  })
  const took = performance.now() - before
  assert.equal(response.status, 204, await response.text())
  assert.equal(Number(response.headers.get('Upload-Offset')), data.length)
  assert.equal(await landfall.sha256(upload.url), sha256(data))
  // The promise is 100 ms for the takeover; the rest is for a busy test machine.
  assert.ok(took < 3_000, `took ${took} ms`)
})

test('the network falls silent, and the client starts again', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const source = await sourceFile(t, 16 * MIB)
  const { upload, requests, finished } = prepare(createReadStream(source.path), {
    endpoint: proxy.endpoint,
  })
  proxy.failAfter(6 * MIB, 'silence')
  upload.start()
  await until(() => proxy.faults === 1)
  await sleep(500)
  assert.equal(count(requests, 'PATCH'), 0, 'nothing got through')

  // tus-js-client has no timeout, so the program aborts.
  await pause(upload)
  upload.start()
  const url = await finished
  const head = requests.find(({ method }) => method === 'HEAD')
  assert.ok(Number(head.offset) > MIB, `resumed at ${head.offset}`)
  assert.equal(await landfall.sha256(url), source.sha256)
})

/** `count` faults at random places: some fall into the head of a request, some into the bytes. */
function randomFaults(random, count, kinds) {
  let left = count
  return () => {
    if (left === 0) return null
    left -= 1
    return {
      bytes: Math.floor(random() < 0.3 ? random() * 400 : random() * 1.2 * MIB),
      kind: kinds[Math.floor(random() * kinds.length)],
    }
  }
}

test('the connection breaks at random bytes, again and again', { timeout: 120_000 }, async (t) => {
  const random = randomNumbers(t)
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const source = await sourceFile(t, 32 * MIB)
  proxy.failEach(randomFaults(random, 25, ['reset', 'close', 'half-open']))
  const { url, requests } = await uploadAll(createReadStream(source.path), {
    endpoint: proxy.endpoint,
    chunkSize: CHUNK,
    onShouldRetry: () => true,
    retryDelays: Array(200).fill(0),
  })

  assert.equal(proxy.faults, 25)
  // Acknowledged offsets only grow.
  const offsets = requests
    .filter(({ offset }) => offset !== undefined)
    .map(({ offset }) => Number(offset))
  assert.deepEqual(
    offsets,
    [...offsets].sort((a, b) => a - b),
  )
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('four parallel parts meet faults', { timeout: 120_000 }, async (t) => {
  const random = randomNumbers(t)
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const source = await sourceFile(t, 32 * MIB)
  proxy.failEach(randomFaults(random, 20, ['reset', 'half-open']))
  const { url } = await uploadAll(createReadStream(source.path), {
    endpoint: proxy.endpoint,
    parallelUploads: 4,
    retryDelays: Array(50).fill(20),
  })
  assert.equal(proxy.faults, 20)
  assert.equal(await landfall.sha256(url), source.sha256)
  assert.equal((await landfall.head(url)).offset, source.size)
})

test('the answer to the last bytes is lost', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const data = bytes(3 * MIB)
  const { upload, requests, finished } = prepare(data, { endpoint: proxy.endpoint })
  proxy.loseAnswerAfter(data.length)
  upload.start()
  const url = await finished

  assert.equal(proxy.faults, 1)
  const [head] = requests.filter(({ method }) => method === 'HEAD')
  assert.equal(Number(head.offset), data.length, 'the server has kept all of it')
  assert.equal(count(requests, 'PATCH'), 0, 'and nothing is sent a second time')
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('the answer to a creation is lost', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const data = bytes(MIB)
  proxy.loseAnswerAfter(1)
  const { url, requests } = await uploadAll(data, { endpoint: proxy.endpoint })
  assert.equal(proxy.faults, 1)
  assert.equal(count(requests, 'POST'), 1, 'one creation was answered')
  assert.equal(await landfall.sha256(url), sha256(data))
  const others = (await landfall.allInfos()).filter(({ ID }) => ID !== landfall.idOf(url))
  assert.equal(others.length, 1, 'the unheard creation is there as well, and empty')
  assert.equal(await landfall.storedBytes(`${landfall.endpoint}${others[0].ID}`), 0)
})

test('an upload as slow as a bad phone line', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const data = bytes(64 * 1024)
  const { upload, finished } = prepare(data, { endpoint: proxy.endpoint, retryDelays: null })
  proxy.bytesPerSecond = 16 * 1024
  upload.start()
  const url = await finished
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('the server is out of reach for a while', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 20 * MIB
  const source = await sourceFile(t, 12 * MIB)
  const { upload, requests, finished } = prepare(createReadStream(source.path), {
    endpoint: proxy.endpoint,
  })
  upload.start()
  await proxy.whenPassed(5 * MIB)
  proxy.reachable = false
  proxy.failNow('half-open')
  await sleep(700)
  proxy.reachable = true
  const url = await finished
  assert.equal(count(requests, 'POST'), 1)
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('two clients race for one upload', { timeout: 90_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 16 * MIB
  const source = await sourceFile(t, 16 * MIB)
  const first = prepare(createReadStream(source.path), {
    endpoint: proxy.endpoint,
    onShouldRetry: () => true,
    retryDelays: Array(40).fill(50),
  })
  first.upload.start()
  await proxy.whenPassed(2 * MIB)

  const second = prepare(createReadStream(source.path), {
    endpoint: proxy.endpoint,
    uploadUrl: first.upload.url,
    onShouldRetry: () => true,
    retryDelays: Array(40).fill(700),
  })
  second.upload.start()

  assert.equal(await first.finished, await second.finished)
  assert.equal(await landfall.sha256(first.upload.url), source.sha256)
  assert.equal((await landfall.allInfos()).length, 1)
})

test('of two clients with different bytes, each byte comes from the one who held the upload', { timeout: 90_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  proxy.bytesPerSecond = 16 * MIB
  const size = 12 * MIB
  const options = {
    endpoint: proxy.endpoint,
    chunkSize: CHUNK,
    onShouldRetry: () => true,
    retryDelays: Array(60).fill(100),
  }
  // One comes back quickly and the other one slowly, or they would keep pushing each other away.
  const first = prepare(Buffer.alloc(size, 'a'), options)
  first.upload.start()
  await proxy.whenPassed(MIB)
  const second = prepare(Buffer.alloc(size, 'b'), {
    ...options,
    uploadUrl: first.upload.url,
    retryDelays: Array(60).fill(700),
  })
  second.upload.start()
  const [url] = await Promise.all([first.finished, second.finished])

  // Each acknowledged range must hold the bytes of the client it was acknowledged to.
  const stored = await readFile(landfall.pathOf(url))
  assert.equal(stored.length, size)
  let ranges = 0
  for (const [letter, { requests }] of [
    ['a', first],
    ['b', second],
  ]) {
    for (const { method, status, sentOffset, offset } of requests) {
      if (method !== 'PATCH' || status !== 204) continue
      const range = stored.subarray(Number(sentOffset), Number(offset))
      assert.ok(
        range.equals(Buffer.alloc(range.length, letter)),
        `bytes ${sentOffset}-${offset} were acknowledged to ${letter}`,
      )
      ranges += 1
    }
  }
  assert.ok(ranges > 0)
})
