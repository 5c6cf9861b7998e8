// Uppy in Chromium, nginx, a server with tusd's command line, and a FastAPI receiver of its hooks.

import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { build } from 'rolldown'
import { openBrowser, openPage, serveSite } from '../../clients/lib/browser.js'
import { sha256OfFile, sourceFile, tempDir } from '../../clients/lib/source.js'
import { until } from '../../clients/lib/tus.js'
import { startNginx } from '../../hooks/lib/nginx.js'
import { freePort, python, run, serve } from '../../hooks/lib/programs.js'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const PROJECTS = { lake: ['ann'], attic: [] }
const TIMEOUT = { timeout: 120_000 }

/** The environment without settings of the server. */
function environment() {
  const given = Object.entries(process.env)
  return Object.fromEntries(given.filter(([name]) => !name.startsWith('LANDFALL_')))
}

/** The page for browsers, bundled as its authors do. */
async function servePage(t) {
  const file = join(await tempDir(t), 'page.js')
  await build({
    input: join(HERE, 'page.js'),
    platform: 'browser',
    output: { file, format: 'esm' },
    logLevel: 'silent',
  })
  const files = { '/index.html': await readFile(join(HERE, 'index.html')), '/page.js': await readFile(file) }
  return serveSite(t, { files })
}

/** Starts everything; `more` are flags besides those of the deployment. */
async function deploy(t, more = []) {
  const dir = await tempDir(t)
  const [uploads, archive] = [join(dir, 'uploads'), join(dir, 'archive')]
  await mkdir(archive)
  const hooks = await freePort()
  const receiver = await serve(
    t, hooks, python('uvicorn'), ['--port', String(hooks), '--app-dir', HERE, 'receiver:app'],
    { env: { ...process.env, ARCHIVE: archive, PROJECTS: JSON.stringify(PROJECTS) } },
  )
  const port = await freePort()
  const log = await serve(
    t, port, process.env.LANDFALL_BIN,
    [
      '-port', String(port),
      '-upload-dir', uploads,
      '-behind-proxy',
      '-hooks-http', `http://127.0.0.1:${hooks}/hooks/tusd`,
      '-hooks-http-forward-headers', 'authorization',
      '-hooks-enabled-events', 'pre-create,post-finish',
      ...more,
    ],
    { env: environment() },
  )
  return {
    uploads,
    archive,
    log,
    endpoint: await startNginx(t, `http://127.0.0.1:${port}/files/`),
    /** The hooks that the receiver accepted, in order. */
    accepted: () => receiver.filter((line) => line.startsWith('hook ')).map((line) => line.split(' ')[1]),
    /** All its responses. */
    answers: () => receiver.filter((line) => line.includes('POST /hooks/tusd')).map((line) => line.match(/HTTP\/1\.1" (\d{3})/)[1]),
  }
}

/** Sends a file on the page as this user; returns what the page shows, and its requests in order. */
async function send(t, endpoint, source, { token = 'token-of-ann', project = 'lake' } = {}) {
  const { page } = await openPage(t, await openBrowser(t))
  const requests = []
  page.on('response', (response) => {
    const request = response.request()
    if (response.url().startsWith(endpoint) && request.method() !== 'OPTIONS') {
      requests.push(`${request.method()} ${response.status()}`)
    }
  })
  const query = new URLSearchParams({ endpoint, token, project })
  await page.goto(`${await servePage(t)}/?${query}`)
  await page.setInputFiles('#file', source.path)
  const status = page.locator('#status')
  await status.filter({ hasText: /^(done|failed) / }).waitFor({ timeout: 60_000 })
  return { shown: await status.textContent(), requests, page }
}

/** What uploads left in the directory, without the server's own. */
async function left(uploads) {
  return (await readdir(uploads)).filter((name) => !name.startsWith('.'))
}

for (const [how, more] of [['tusd\'s flags', []], ['--compat tusd', ['--compat', 'tusd']]]) {
  test(`${how}: a file is checked, arrives and is moved away`, TIMEOUT, async (t) => {
    const deployed = await deploy(t, more)
    const { uploads, archive, endpoint, accepted, answers, log } = deployed
    const source = await sourceFile(t, 5_000_001, { name: 'Summer at the läke.png' })
    const { shown, requests } = await send(t, endpoint, source)
    assert.ok(shown.startsWith(`done ${endpoint}`), shown)
    assert.deepEqual(requests, ['POST 201', 'PATCH 204', 'PATCH 204', 'PATCH 204'])

    const moved = join(archive, 'lake/ann', source.name)
    await until(async () => (await left(uploads)).length === 0, 30_000)
    assert.equal(await sha256OfFile(moved), source.sha256)
    assert.deepEqual(accepted(), ['pre-create', 'post-finish'])
    assert.deepEqual(answers(), ['200', '200'])

    // A second file shows that the first event is not sent again before the next one.
    const other = await sourceFile(t, 1000, { name: 'other.png', seed: 2 })
    await send(t, endpoint, other)
    await until(async () => (await left(uploads)).length === 0 && accepted().length === 4, 30_000)
    assert.deepEqual(accepted(), ['pre-create', 'post-finish', 'pre-create', 'post-finish'])
    assert.deepEqual(answers(), ['200', '200', '200', '200'])

    const swept = await run(process.env.LANDFALL_BIN, ['sweep', '--upload-dir', uploads], { env: environment() })
    assert.equal(swept.code, 0, swept.stderr)
    assert.equal(await sha256OfFile(moved), source.sha256)
    assert.equal((await stat(join(archive, 'lake/ann/other.png'))).size, 1000)
    assert.deepEqual(log.filter((line) => line.includes('token-of-ann')), [])
  })

  for (const [status, reason, user, name] of [
    [400, 'Only images can be sent.', {}, 'a.txt'],
    [401, 'Your session has ended, please sign in again.', { token: 'stolen' }, 'a.png'],
    [403, 'bob is not a member of lake.', { token: 'token-of-bob' }, 'a.png'],
    [404, 'There is no project cellar.', { project: 'cellar' }, 'a.png'],
  ]) {
    test(`${how}: a refusal with ${status} reaches the page, which does not try again`, TIMEOUT, async (t) => {
      const { uploads, archive, endpoint, accepted, answers } = await deploy(t, more)
      const source = await sourceFile(t, 1000, { name })
      const { shown, requests, page } = await send(t, endpoint, source, user)
      assert.equal(shown, `failed ${status} ${JSON.stringify({ detail: reason })}`)
      // Longer than Uppy's first delays, after which it would try again.
      await page.waitForTimeout(1500)
      assert.deepEqual(requests, [`POST ${status}`])
      assert.deepEqual(answers(), [String(status)])
      assert.deepEqual(accepted(), [])
      assert.deepEqual(await left(uploads), [])
      assert.deepEqual(await readdir(archive), [])
    })
  }
}
