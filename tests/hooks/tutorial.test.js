// The deployment of the tutorials: Uppy in Chromium, nginx, and a FastAPI endpoint.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openBrowser, openPage, serveSite } from '../clients/lib/browser.js'
import { Landfall } from '../clients/lib/landfall.js'
import { sourceFile, tempDir } from '../clients/lib/source.js'
import { until, uploadAll } from '../clients/lib/tus.js'
import { add, arrived, buildPage, startUpload } from '../clients/lib/uppy.js'
import { startNginx } from './lib/nginx.js'
import { freePort, python, run, serve } from './lib/programs.js'

const RECEIVERS = fileURLToPath(new URL('receivers', import.meta.url))

/** The page with the Uppy Dashboard, on its own origin, for a user with this token. */
async function openUppy(t, endpoint, token) {
  const origin = await serveSite(t, { root: await buildPage(t, endpoint, token) })
  const { page } = await openPage(t, await openBrowser(t))
  const answers = []
  page.on('response', (response) => {
    const method = response.request().method()
    if (response.url().startsWith(endpoint)) answers.push(`${method} ${response.status()}`)
  })
  await page.goto(origin)
  await page.getByRole('heading', { name: 'Upload to Landfall' }).waitFor()
  return { page, answers }
}

/** The settings of the tutorials, without formats, retries or signatures. */
async function deploy(t) {
  const port = await freePort()
  const landfall = await Landfall.start(t, {
    args: [
      '-behind-proxy',
      '--hooks-http', `http://127.0.0.1:${port}/tus-hook`,
      '--hooks-http-forward-headers', 'authorization',
      '--hooks-enabled-events', 'pre-create,post-finish',
    ],
  })
  const notes = join(await tempDir(t), 'seen.jsonl')
  const uvicorn = await serve(
    t, port, python('uvicorn'), ['--port', String(port), '--app-dir', RECEIVERS, 'tutorial:app'],
    { env: { ...process.env, UPLOADS: landfall.dir, SEEN: notes } },
  )
  const seen = async () => {
    const text = await readFile(notes, 'utf8').catch(() => '')
    return text.split('\n').filter(Boolean).map((line) => JSON.parse(line))
  }
  return { landfall, endpoint: await startNginx(t, landfall.endpoint), seen, uvicorn }
}

test('tutorial: an upload with a valid token succeeds, and the endpoint gets its events', { timeout: 120_000 }, async (t) => {
  const { landfall, endpoint, seen } = await deploy(t)
  const { page } = await openUppy(t, endpoint, 'good-token')
  const source = await sourceFile(t, 5_000_001, { name: 'holiday.png' })
  await add(page, [source])
  await startUpload(page)
  const url = (await arrived(page, [source])).get(source.name)
  assert.ok(url.startsWith(endpoint), `${url} is nginx's`)
  assert.equal(await landfall.sha256(url), source.sha256)

  await until(async () => (await seen()).length >= 2)
  const id = landfall.idOf(url)
  const calls = await seen()
  assert.deepEqual(calls.map(({ hook }) => hook), ['pre-create', 'post-finish'])
  assert.deepEqual(calls.map((one) => one.id), ['', id])
  for (const { meta, size } of calls) {
    assert.equal(size, source.size)
    assert.equal(meta.filename, 'holiday.png')
    assert.equal(meta.filetype, 'image/png')
    assert.equal(meta.album, 'Summer at the lake 🏞')
  }
})

test('tutorial: an upload with an invalid token shows the reason', { timeout: 120_000 }, async (t) => {
  const { landfall, endpoint, seen } = await deploy(t)
  const { page, answers } = await openUppy(t, endpoint, 'stolen-token')
  await add(page, [await sourceFile(t, 1000, { name: 'refused.png' })])
  await startUpload(page)
  await page.locator('.uppy-StatusBar.is-error').waitFor()
  let why
  page.on('dialog', (dialog) => {
    why = dialog.message()
    return dialog.accept()
  })
  await page.getByRole('button', { name: 'Show error details' }).click()
  assert.match(why, /Your session is over: please sign in again\./)
  assert.match(why, /401/)
  assert.ok(answers.includes('POST 401'), answers.join(', '))
  assert.deepEqual(await landfall.allInfos(), [])
  assert.deepEqual(await seen(), [])
})

test('tutorial: the endpoint can remove the .info file', { timeout: 120_000 }, async (t) => {
  const { landfall, endpoint, seen, uvicorn } = await deploy(t)
  const headers = { Authorization: 'Bearer good-token' }
  const options = { endpoint, headers, metadata: { filename: 'a.bin' } }
  const first = Buffer.from('the first file')
  const { url } = await uploadAll(first, options)
  await until(async () => (await landfall.allInfos()).length === 0)

  // As in tusd, neither the upload nor its bytes are accessible any more.
  const again = { headers: { 'Tus-Resumable': '1.0.0', ...headers } }
  assert.equal((await fetch(url, { ...again, method: 'HEAD' })).status, 404)
  assert.equal((await fetch(url, again)).status, 404)
  assert.equal((await fetch(url, { ...again, method: 'DELETE' })).status, 404)
  assert.equal(await readFile(landfall.pathOf(url), 'utf8'), 'the first file')

  const second = await uploadAll(Buffer.from('the second file'), options)
  await until(async () => (await seen()).filter(({ hook }) => hook === 'post-finish').length === 2)
  await landfall.kill()
  await landfall.restart()
  const third = await uploadAll(Buffer.from('the third file'), options)
  await until(async () => (await seen()).filter(({ hook }) => hook === 'post-finish').length === 3)

  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('LANDFALL_'))
  const env = Object.fromEntries(inherited)
  const swept = await run(process.env.LANDFALL_BIN, ['sweep', '--upload-dir', landfall.dir], { env })
  assert.equal(swept.code, 0, swept.stderr)
  for (const [link, text] of [[url, 'first'], [second.url, 'second'], [third.url, 'third']]) {
    assert.equal(await readFile(landfall.pathOf(link), 'utf8'), `the ${text} file`)
  }
  const failed = uvicorn.filter((line) => / 5\d\d|Traceback|AssertionError/.test(line))
  assert.deepEqual(failed, [])
})
