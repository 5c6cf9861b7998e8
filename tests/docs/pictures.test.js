// The pictures of the README exist, are small, and are shown. UPDATE_PICTURES=1 takes them anew, in Chromium; it needs
// `npm ci` in tests/page and tests/dashboard.

import assert from 'node:assert/strict'
import { readFile, readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { ROOT, read } from './lib/blocks.js'

const PICTURES = { page: 'docs/images/upload-page.webp', dashboard: 'docs/images/dashboard.webp' }
const LARGEST = 60_000

test('the README shows pictures of the page and of the dashboard', { timeout: 300_000 }, async () => {
  if (process.env.UPDATE_PICTURES) await (await import('./lib/pictures.js')).takePictures(PICTURES)
  const readme = await read('README.md')
  for (const file of Object.values(PICTURES)) {
    const picture = await readFile(`${ROOT}${file}`)
    assert.equal(picture.toString('latin1', 8, 12), 'WEBP', file)
    assert.ok(picture.length <= LARGEST, `${file} has ${picture.length} bytes`)
    assert.match(readme, new RegExp(`!\\[[^\\]]+\\]\\(${file}\\)|<img src="${file}" alt="[^"]+"`), file)
  }
  const stored = await readdir(`${ROOT}docs/images`)
  assert.deepEqual(stored.map((name) => `docs/images/${name}`).toSorted(), Object.values(PICTURES).toSorted())
})
