// A page with tus-js-client, for a browser.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { serveSite } from './browser.js'

const CLIENT = new URL('../node_modules/tus-js-client/dist/tus.min.js', import.meta.url)

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

/** Serves the page; gives its origin. */
export async function serveTusPage(t) {
  const files = { '/index.html': PAGE, '/page.js': SCRIPT, '/tus.js': await readFile(CLIENT) }
  return serveSite(t, { files })
}

export async function choose(page, source) {
  await page.setInputFiles('#file', source.path)
}

export async function finish(page) {
  await page.waitForFunction(() => window.state.done || window.state.error, null, { timeout: 60_000 })
  const state = await page.evaluate(() => window.state)
  assert.equal(state.error, null)
  return state
}
