// tus-js-client in a real Chromium, on a page of another origin than the server.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { openBrowser, openPage, serveSite } from './lib/browser.js'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { MIB, sourceFile } from './lib/source.js'
import { CHUNK, until } from './lib/tus.js'

const CLIENT = new URL('node_modules/tus-js-client/dist/tus.min.js', import.meta.url)

const PAGE = `<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><title>tus-js-client</title><link rel="icon" href="data:,"></head>
  <body>
    <input type="file" id="file">
    <script src="/tus.js"></script>
    <script src="/page.js"></script>
  </body>
</html>`

// Runs in the page. The test reads window.state.
const SCRIPT = `
window.state = { sent: 0, requests: [], url: null, error: null, done: false, previous: 0 }
window.begin = async (options) => {
  const { state } = window
  const file = document.querySelector('#file').files[0]
  const upload = new tus.Upload(file, {
    retryDelays: [0, 50, 100, 200, 400, 800, 1600],
    headers: { Authorization: 'Bearer secret' },
    metadata: { filename: file.name, filetype: file.type },
    ...options,
    onProgress: (sent) => { state.sent = sent },
    onAfterResponse: (request, response) => {
      state.requests.push({
        method: request.getMethod(),
        status: response.getStatus(),
        offset: response.getHeader('Upload-Offset'),
      })
    },
    onSuccess: () => { state.url = upload.url; state.done = true },
    onError: (error) => { state.error = String(error) },
  })
  window.upload = upload
  const previous = await upload.findPreviousUploads()
  state.previous = previous.length
  if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
  upload.start()
}
`

async function setUp(t) {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const origin = await serveSite(t, {
    files: { '/index.html': PAGE, '/page.js': SCRIPT, '/tus.js': await readFile(CLIENT) },
  })
  const { page, preflights } = await openPage(t, await openBrowser(t))
  await page.goto(origin)
  return { landfall, proxy, page, preflights }
}

async function choose(page, source) {
  await page.setInputFiles('#file', source.path)
}

async function finish(page) {
  await page.waitForFunction(() => window.state.done || window.state.error, null, { timeout: 60_000 })
  const state = await page.evaluate(() => window.state)
  assert.equal(state.error, null)
  return state
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
