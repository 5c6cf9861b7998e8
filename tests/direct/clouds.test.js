// Uppy 5 in Chromium with `shouldUseMultipart: false`, from a page's origin to Azure: Azurite, with its own CORS rules.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { openBrowser } from '../clients/lib/browser.js'
import { Landfall } from '../clients/lib/landfall.js'
import { sha256, sourceFile, tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { add, startUpload } from '../clients/lib/uppy.js'
import { startAzurite } from '../nodes/lib/services.js'
import { openClient, succeeded } from './lib/clients.js'
import { servePages } from './lib/pages.js'
import { addCaller } from './lib/setup.js'

/** Of the public key of Azurite's account, for everything, until 2099. */
const SAS =
  'sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&sig=N5uz2Xeys0I28PmqjyjbsCHaHaD7oWInzBEyCFTa6O8%3D'

/** Lets pages of `origin` send files, as docs/direct.md says. */
async function setCors(place, origin) {
  const rule = `<AllowedOrigins>${origin}</AllowedOrigins><AllowedMethods>PUT</AllowedMethods>
    <AllowedHeaders>*</AllowedHeaders><ExposedHeaders>ETag</ExposedHeaders><MaxAgeInSeconds>3000</MaxAgeInSeconds>`
  const body = `<?xml version="1.0" encoding="utf-8"?>
    <StorageServiceProperties><Cors><CorsRule>${rule}</CorsRule></Cors></StorageServiceProperties>`
  const url = `${place.endpoint}/${place.env.AZURE_STORAGE_ACCOUNT}/?restype=service&comp=properties&${SAS}`
  const set = await fetch(url, { method: 'PUT', body, headers: { 'x-ms-version': '2020-12-06' } })
  assert.equal(set.status, 202, await set.text())
}

test('on Azurite', { timeout: 180_000 }, async (t) => {
  const place = await startAzurite(t)
  const origin = await servePages(t)
  await setCors(place, origin)
  const world = { origin, browser: await openBrowser(t, []) }
  const dir = await tempDir(t)
  const landfall = await Landfall.start(t, {
    shared: dir,
    env: place.env,
    args: [
      '-direct',
      ...['-database', join(dir, 'landfall.db')],
      ...['-sweep-interval', '10s'],
      ...['-azure-storage', place.container],
      ...['-azure-endpoint', place.endpoint],
      ...['-cors-allow-origin', `^${origin}$`],
    ],
  })
  landfall.origin = new URL(landfall.endpoint).origin
  const caller = await addCaller(landfall, 'ann')
  const client = { page: 'uppy/5/', mode: 'companion' }
  const { page, calls } = await openClient(t, world, landfall, client, caller.key)
  const source = await sourceFile(t, 40_000, { name: 'süß & small.png' })
  await add(page, [source])
  await startUpload(page)
  const { uploadURL } = await succeeded(page, source)
  assert.deepEqual(calls(), ['GET /s3/params'])
  await until(async () => (await caller.all())[0].state === 'completed')
  const [job] = await caller.all()
  assert.deepEqual([job.size, job.filename, job.filetype], [source.size, source.name, 'image/png'])
  const stored = await fetch(`${uploadURL}?${SAS}`)
  assert.equal(stored.headers.get('Content-Type'), 'image/png')
  assert.equal(sha256(Buffer.from(await stored.arrayBuffer())), source.sha256)
})
