// tus-js-client and Uppy in Chromium, and curl, over TLS with each version of HTTP.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { openBrowser, openPage, serveSite } from './lib/browser.js'
import { createCertificate } from './lib/certificate.js'
import { Landfall } from './lib/landfall.js'
import { MIB, sourceFile } from './lib/source.js'
import { CHUNK } from './lib/tus.js'
import { choose, finish, serveTusPage } from './lib/tus-page.js'
import { add, arrived, buildPage, startUpload } from './lib/uppy.js'

const PROTOCOLS = ['tus-v1', 'ietf-draft-03', 'ietf-draft-05']

/** Flags of Chromium's, so that it uses only this version of HTTP with a server. */
const VERSIONS = {
  'http/1.1': () => ['--disable-http2'],
  h2: () => [],
  h3: (port) => ['--enable-quic', `--origin-to-force-quic-on=127.0.0.1:${port}`],
}

/** A server with TLS, and a page of a browser that trusts it. */
async function setUp(t, version) {
  const certificate = await createCertificate(t)
  const landfall = await Landfall.start(t, { args: [...certificate.args, '--http3'] })
  const flags = VERSIONS[version](landfall.port)
  const { page, responses } = await openPage(t, await openBrowser(t, [certificate.trust, ...flags]))
  const versions = () => {
    const own = responses.filter(({ url }) => url.startsWith(landfall.endpoint))
    return [...new Set(own.map((response) => response.version))]
  }
  return { landfall, page, versions }
}

for (const version of Object.keys(VERSIONS)) {
  test(`Chromium over ${version}: tus-js-client in all its protocols`, { timeout: 180_000 }, async (t) => {
    const { landfall, page, versions } = await setUp(t, version)
    const origin = await serveTusPage(t)
    for (const [seed, protocol] of PROTOCOLS.entries()) {
      const options = { endpoint: landfall.endpoint, protocol }
      for (const [size, chunkSize] of [[1, Infinity], [3 * CHUNK + 1, CHUNK], [20 * MIB, Infinity]]) {
        const source = await sourceFile(t, size, { name: `${protocol}-${size}.bin`, seed: seed + 1 })
        await page.goto(origin)
        await choose(page, source)
        await page.evaluate((options) => window.begin(options), { ...options, chunkSize })
        const { url, requests } = await finish(page)
        assert.equal(await landfall.sha256(url), source.sha256, `${protocol}, ${size} bytes`)
        const patches = requests.filter(({ method }) => method === 'PATCH')
        assert.equal(patches.length, Math.ceil(size / Math.min(chunkSize, size)))
      }
      // Paused in the middle, and resumed.
      const source = await sourceFile(t, 40 * MIB, { name: `${protocol}.bin`, seed: seed + 9 })
      await page.goto(origin)
      await choose(page, source)
      await page.evaluate((options) => window.begin(options), { ...options, chunkSize: MIB })
      await page.waitForFunction((bytes) => window.state.sent > bytes, 4 * MIB)
      await page.evaluate(() => window.upload.abort())
      const before = await page.evaluate(() => window.state.sent)
      assert.ok(before < 40 * MIB, 'it was done before it was paused')
      await page.waitForTimeout(100)
      await page.evaluate(() => window.upload.start())
      const { url, requests } = await finish(page)
      assert.ok(requests.some(({ method }) => method === 'HEAD'))
      assert.equal(await landfall.sha256(url), source.sha256, protocol)
    }
    assert.deepEqual(versions(), [version])
  })
}

for (const version of ['h2', 'h3']) {
  test(`Uppy over ${version}: several files at once`, { timeout: 120_000 }, async (t) => {
    const { landfall, page, versions } = await setUp(t, version)
    const origin = await serveSite(t, { root: await buildPage(t, landfall.endpoint, 'token') })
    await page.goto(origin)
    await page.getByRole('heading', { name: 'Upload to Landfall' }).waitFor()
    const sources = []
    for (const [seed, size] of [5 * CHUNK + 1, CHUNK, 1, 3 * MIB].entries()) {
      sources.push(await sourceFile(t, size, { name: `file-${seed}.bin`, seed: seed + 1 }))
    }
    await add(page, sources)
    await startUpload(page)
    const urls = await arrived(page, sources)
    for (const source of sources) {
      assert.equal(await landfall.sha256(urls.get(source.name)), source.sha256, source.name)
    }
    assert.deepEqual(versions(), [version])
  })
}

for (const flag of ['--http1.1', '--http2']) {
  test(`curl ${flag}: a file in one request of the draft, with interim responses`, { timeout: 60_000 }, async (t) => {
    const { certificate, args } = await createCertificate(t)
    const landfall = await Landfall.start(t, { args })
    const source = await sourceFile(t, 12 * MIB + 1)
    const { stdout } = await promisify(execFile)('curl', [
      '-sS', '-i', flag, '--cacert', certificate, '--data-binary', `@${source.path}`,
      '-H', 'Upload-Draft-Interop-Version: 10', '-H', 'Upload-Complete: ?1', landfall.endpoint,
    ])
    const statuses = [...stdout.matchAll(/^HTTP\/(\S+) (\d+)/gm)].map(([, version, status]) => [version, status])
    const expected = flag === '--http2' ? '2' : '1.1'
    assert.ok(statuses.every(([version]) => version === expected), stdout)
    assert.equal(statuses.at(-1)[1], '201')
    assert.ok(statuses.some(([, status]) => status === '104'), stdout)
    const locations = [...stdout.matchAll(/^location: (\S+)/gim)].map(([, location]) => location)
    assert.equal(new Set(locations).size, 1)
    assert.equal(await landfall.sha256(locations[0]), source.sha256)
  })
}
