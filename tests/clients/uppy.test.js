// examples/uppy-vue, built as its README says, driven in a real Chromium.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openBrowser, openPage, serveSite } from './lib/browser.js'
import { Landfall } from './lib/landfall.js'
import { FaultProxy } from './lib/proxy.js'
import { MIB, sourceFile } from './lib/source.js'
import { CHUNK, until } from './lib/tus.js'
import { add, arrived, buildPage, startUpload } from './lib/uppy.js'

async function setUp(t) {
  const landfall = await Landfall.start(t)
  const proxy = await FaultProxy.start(t, landfall)
  const origin = await serveSite(t, {
    root: await buildPage(t, proxy.endpoint, 'token-of-the-test'),
  })
  const { page, preflights } = await openPage(t, await openBrowser(t))
  const requests = []
  page.on('request', (request) => {
    if (request.url().startsWith(proxy.endpoint)) {
      requests.push({
        method: request.method(),
        authorization: request.headers().authorization,
        offset: request.headers()['upload-offset'],
      })
    }
  })
  await page.goto(origin)
  await page.getByRole('heading', { name: 'Upload to Landfall' }).waitFor()
  return { landfall, proxy, page, preflights, requests }
}

test('Uppy: files of several sizes go up through the Dashboard', { timeout: 120_000 }, async (t) => {
  const { landfall, page, preflights, requests } = await setUp(t)
  const sources = [
    await sourceFile(t, 5 * CHUNK + 1, { name: 'big ünïcode.bin', seed: 1 }),
    await sourceFile(t, CHUNK, { name: 'one-chunk.txt', seed: 2 }),
    await sourceFile(t, 1, { name: 'tiny.json', seed: 3 }),
  ]
  await add(page, sources)
  await startUpload(page)
  const urls = await arrived(page, sources)

  for (const source of sources) {
    assert.equal(await landfall.sha256(urls.get(source.name)), source.sha256, source.name)
  }
  assert.deepEqual((await landfall.info(urls.get('one-chunk.txt'))).MetaData, {
    album: 'Summer at the lake 🏞',
    caption: '',
    name: 'one-chunk.txt',
    filename: 'one-chunk.txt',
    type: 'text/plain',
    filetype: 'text/plain',
  })
  assert.equal(
    (await landfall.info(urls.get('big ünïcode.bin'))).MetaData.filename,
    'big ünïcode.bin',
  )

  const offsets = requests
    .filter(({ method }) => method === 'PATCH')
    .map(({ offset }) => Number(offset))
  assert.ok(offsets.includes(5 * CHUNK), 'the big file went in chunks of 2,000,000 bytes')
  for (const { method, authorization } of requests) {
    if (method !== 'OPTIONS') assert.equal(authorization, 'Bearer token-of-the-test')
  }
  assert.match(preflights[0].headers['Access-Control-Request-Headers'], /authorization/)
})

test('Uppy: a caption given in the Dashboard arrives as metadata', { timeout: 120_000 }, async (t) => {
  const { landfall, page } = await setUp(t)
  const sources = [await sourceFile(t, 1000, { name: 'lake.png' })]
  await add(page, sources)
  await page.locator('.uppy-Dashboard-Item-action--edit').click()
  const caption = page.getByLabel('Caption')
  // The form is drawn again when the thumbnail is ready.
  await until(async () => {
    await caption.fill('Sunset, 21:14 – “gold”')
    await page.waitForTimeout(200)
    return (await caption.inputValue()) === 'Sunset, 21:14 – “gold”'
  })
  await page.getByRole('button', { name: 'Save changes' }).click()
  await startUpload(page)
  const urls = await arrived(page, sources)
  const { MetaData } = await landfall.info(urls.get('lake.png'))
  assert.equal(MetaData.caption, 'Sunset, 21:14 – “gold”')
})

test('Uppy: pause and resume', { timeout: 120_000 }, async (t) => {
  const { landfall, proxy, page, requests } = await setUp(t)
  proxy.bytesPerSecond = 5 * MIB
  const sources = [await sourceFile(t, 24 * MIB, { name: 'paused.bin' })]
  await add(page, sources)
  await startUpload(page)
  await proxy.whenPassed(5 * MIB)
  await page.getByRole('button', { name: 'Pause', exact: true }).click()

  // Bytes in flight may still arrive; then the offset is stable.
  let before
  await until(async () => {
    before = proxy.passed
    await page.waitForTimeout(500)
    return proxy.passed === before
  })
  assert.ok(proxy.passed < 24 * MIB, 'paused before the end')

  await page.getByRole('button', { name: 'Resume', exact: true }).click()
  const urls = await arrived(page, sources)
  assert.ok(requests.some(({ method }) => method === 'HEAD'))
  assert.equal(requests.filter(({ method }) => method === 'POST').length, 1)
  assert.equal(await landfall.sha256(urls.get('paused.bin')), sources[0].sha256)
})

test('Uppy: the network is cut and comes back', { timeout: 120_000 }, async (t) => {
  const { landfall, proxy, page, requests } = await setUp(t)
  proxy.bytesPerSecond = 8 * MIB
  const sources = [
    await sourceFile(t, 10 * MIB, { name: 'first.bin', seed: 1 }),
    await sourceFile(t, 10 * MIB + 1, { name: 'second.bin', seed: 2 }),
  ]
  await add(page, sources)
  await startUpload(page)
  for (const kind of ['reset', 'half-open']) {
    await proxy.whenPassed(4 * MIB)
    proxy.reachable = false
    proxy.failNow(kind)
    await page.waitForTimeout(700)
    proxy.reachable = true
  }
  const urls = await arrived(page, sources)
  assert.equal(requests.filter(({ method }) => method === 'POST').length, sources.length)
  for (const source of sources) {
    assert.equal(await landfall.sha256(urls.get(source.name)), source.sha256, source.name)
  }
})

test('Uppy: after a reload the same file goes on', { timeout: 120_000 }, async (t) => {
  const { landfall, proxy, page, requests } = await setUp(t)
  proxy.bytesPerSecond = 5 * MIB
  const sources = [await sourceFile(t, 14 * MIB, { name: 'reloaded.bin' })]
  await add(page, sources)
  await startUpload(page)
  await proxy.whenPassed(6 * MIB)
  await page.reload()

  requests.length = 0
  await add(page, sources)
  await startUpload(page)
  const urls = await arrived(page, sources)
  assert.equal(requests.filter(({ method }) => method === 'POST').length, 0)
  const patch = requests.find(({ method }) => method === 'PATCH')
  assert.ok(Number(patch.offset) > MIB, `resumed at ${patch.offset}`)
  assert.equal(await landfall.sha256(urls.get('reloaded.bin')), sources[0].sha256)
  assert.equal((await landfall.allInfos()).length, 1)
})

test('Uppy: removing a file in the middle removes its upload', { timeout: 120_000 }, async (t) => {
  const { landfall, proxy, page } = await setUp(t)
  proxy.bytesPerSecond = 4 * MIB
  const sources = [await sourceFile(t, 14 * MIB, { name: 'unwanted.bin' })]
  await add(page, sources)
  await startUpload(page)
  await proxy.whenPassed(3 * MIB)
  await page.locator('.uppy-Dashboard-Item-action--remove').click()
  await until(async () => (await landfall.allInfos()).length === 0)
})
