// tus-js-client in a real Chromium, on a page of another origin than the server.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openBrowser, openPage } from './lib/browser.js'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { MIB, sourceFile } from './lib/source.js'
import { CHUNK, until } from './lib/tus.js'
import { choose, finish, serveTusPage } from './lib/tus-page.js'

async function setUp(t) {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const origin = await serveTusPage(t)
  const { page, preflights } = await openPage(t, await openBrowser(t))
  await page.goto(origin)
  return { landfall, proxy, page, preflights }
}

test('Chromium: an upload to another origin, with an Authorization header', { timeout: 90_000 }, async (t) => {
  const { landfall, page, preflights } = await setUp(t)
  const source = await sourceFile(t, 9 * MIB + 1, { name: 'höhle.txt' })
  await choose(page, source)
  await page.evaluate((options) => window.begin(options), {
    endpoint: landfall.endpoint,
    chunkSize: CHUNK,
  })
  const { url, requests } = await finish(page)

  assert.equal(await landfall.sha256(url), source.sha256)
  assert.deepEqual((await landfall.info(url)).MetaData, {
    filename: 'höhle.txt',
    filetype: 'text/plain',
  })
  assert.equal(requests.filter(({ method }) => method === 'PATCH').length, 5)

  // The browser sent a preflight for this header.
  const asked = preflights.map(({ headers }) => headers['Access-Control-Request-Method'])
  assert.ok(asked.includes('POST') && asked.includes('PATCH'), `preflights: ${asked}`)
  assert.match(preflights[0].headers['Access-Control-Request-Headers'], /authorization/)
})

test('Chromium: a reload in the middle, resumed from localStorage', { timeout: 90_000 }, async (t) => {
  const { landfall, proxy, page } = await setUp(t)
  proxy.bytesPerSecond = 6 * MIB
  const source = await sourceFile(t, 14 * MIB)
  const options = { endpoint: proxy.endpoint }
  await choose(page, source)
  await page.evaluate((options) => window.begin(options), options)
  await proxy.whenPassed(5 * MIB)
  await page.reload()

  await choose(page, source)
  await page.evaluate((options) => window.begin(options), options)
  const { url, requests, previous } = await finish(page)

  assert.equal(previous, 1)
  assert.equal(requests[0].method, 'HEAD')
  // Bytes of the old page may still arrive and delay the first PATCH.
  const last = requests.at(-1)
  assert.deepEqual([last.method, last.status], ['PATCH', 204])
  assert.ok(!requests.some(({ method }) => method === 'POST'))
  assert.ok(Number(requests[0].offset) > MIB, `resumed at ${requests[0].offset}`)
  assert.equal(await landfall.sha256(url), source.sha256)
  assert.equal((await landfall.allInfos()).length, 1)
})

test('Chromium: four parallel parts, with a reload in the middle', { timeout: 90_000 }, async (t) => {
  const { landfall, proxy, page } = await setUp(t)
  proxy.bytesPerSecond = 3 * MIB
  const source = await sourceFile(t, 16 * MIB + 3)
  const options = { endpoint: proxy.endpoint, parallelUploads: 4 }
  await choose(page, source)
  await page.evaluate((options) => window.begin(options), options)
  await proxy.whenPassed(5 * MIB)
  await page.reload()

  proxy.bytesPerSecond = Infinity
  await choose(page, source)
  await page.evaluate((options) => window.begin(options), options)
  const { url, requests, previous } = await finish(page)

  assert.equal(previous, 1)
  assert.ok(requests.filter(({ method }) => method === 'HEAD').length >= 4)
  assert.equal(requests.filter(({ method }) => method === 'POST').length, 1)
  assert.equal(await landfall.sha256(url), source.sha256)
  assert.equal((await landfall.info(url)).IsFinal, true)
})

for (const kind of ['reset', 'half-open']) {
  test(`Chromium: the connection breaks (${kind})`, { timeout: 90_000 }, async (t) => {
    const { landfall, proxy, page } = await setUp(t)
    proxy.bytesPerSecond = 20 * MIB
    const source = await sourceFile(t, 20 * MIB)
    await choose(page, source)
    await page.evaluate((options) => window.begin(options), { endpoint: proxy.endpoint })
    for (let cut = 1; cut <= 3; cut += 1) {
      proxy.failAfter(5 * MIB, kind)
      await until(() => proxy.faults === cut)
    }
    const { url, requests } = await finish(page)
    assert.equal(requests.filter(({ method }) => method === 'POST').length, 1)
    assert.equal(await landfall.sha256(url), source.sha256)
  })
}

test('Chromium: the server is killed and comes back', { timeout: 90_000 }, async (t) => {
  const { landfall, proxy, page } = await setUp(t)
  proxy.bytesPerSecond = 10 * MIB
  const source = await sourceFile(t, 16 * MIB)
  await choose(page, source)
  await page.evaluate((options) => window.begin(options), { endpoint: proxy.endpoint })
  await proxy.whenPassed(6 * MIB)
  await landfall.kill()
  await landfall.restart()
  const { url, requests } = await finish(page)
  assert.equal(requests.filter(({ method }) => method === 'POST').length, 1)
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('Chromium: abort(true) removes the upload', { timeout: 90_000 }, async (t) => {
  const { landfall, proxy, page } = await setUp(t)
  proxy.bytesPerSecond = 4 * MIB
  const source = await sourceFile(t, 12 * MIB)
  await choose(page, source)
  await page.evaluate((options) => window.begin(options), { endpoint: proxy.endpoint })
  await proxy.whenPassed(2 * MIB)
  await page.evaluate(() => window.upload.abort(true))
  assert.deepEqual(await landfall.allInfos(), [])
  const requests = await page.evaluate(() => window.state.requests)
  assert.deepEqual(
    requests.filter(({ method }) => method === 'DELETE').map(({ status }) => status),
    [204],
  )
})
