// examples/direct-s3, started as its README says, and its page in Chromium.

import assert from 'node:assert/strict'
import { access, readFile } from 'node:fs/promises'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openBrowser, openPage } from '../clients/lib/browser.js'
import { MIB, sha256, sourceFile, tempDir } from '../clients/lib/source.js'
import { add, startUpload } from '../clients/lib/uppy.js'
import { serve } from '../hooks/lib/programs.js'
import { freePorts } from '../nodes/lib/services.js'
import { object } from '../nodes/lib/bucket.js'

const EXAMPLE = fileURLToPath(new URL('../../examples/direct-s3', import.meta.url))
const VITE = join(EXAMPLE, 'node_modules/vite/bin/vite.js')

test('the example', { timeout: 120_000 }, async (t) => {
  await access(VITE).catch(() => {
    throw new Error(`run "npm ci" in ${EXAMPLE} first`)
  })
  await promisify(execFile)(process.execPath, [VITE, 'build', '--logLevel', 'warn'], { cwd: EXAMPLE })
  // Garage takes the port after its own, too.
  const [port, landfall, garage] = await freePorts(4)
  const data = await tempDir(t)
  const inherited = Object.entries(process.env).filter(([name]) => !/^(LANDFALL|AWS|S3)_(?!BIN$)/.test(name))
  const env = {
    ...Object.fromEntries(inherited),
    DATA: data, PORT: String(port), LANDFALL_PORT: String(landfall), GARAGE_PORT: String(garage),
  }
  const lines = await serve(t, port, process.execPath, [join(EXAMPLE, 'start.js')], { env })
  const { page } = await openPage(t, await openBrowser(t))

  const place = {
    endpoint: `http://localhost:${garage}`,
    region: 'garage',
    bucket: 'uploads',
    accessKey: 'GK1a2b3c4d5e6f708192a3b4c5',
    secretKey: '5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99',
  }
  const row = (name) => page.locator('#list li[data-state=completed]', { hasText: name })

  for (const [name, size] of [['small.png', 10_000], ['large.mp4', 24 * MIB]]) {
    const source = await sourceFile(t, size, { name })
    await page.goto(`http://localhost:${port}/`)
    const settled = page.waitForResponse((response) => response.request().method() !== 'OPTIONS' &&
      response.url().startsWith(place.endpoint))
    await add(page, [source])
    await startUpload(page)
    const { pathname } = new URL((await settled).url())
    await row(name).waitFor({ timeout: 60_000 })
    if (size > 20 * MIB) {
      const key = decodeURIComponent(pathname).replace('/uploads/', '')
      assert.equal(sha256((await object(place, key)).data), source.sha256)
    }
  }

  const source = await sourceFile(t, 3 * MIB, { name: 'By Hand.pdf' })
  await page.getByLabel('File', { exact: true }).setInputFiles(source.path)
  const address = await page.locator('output a').getAttribute('href')
  const key = decodeURIComponent(new URL(address).pathname).replace('/uploads/', '')
  assert.match(key, /by_hand\.pdf$/)
  assert.equal(sha256((await object(place, key)).data), source.sha256)
  await row('by_hand.pdf').waitFor()
  const secret = (await readFile(join(data, 'example.key'), 'utf8')).trim()
  assert.ok(!lines.join('\n').includes(secret), 'the key is in no line of the log')
})
