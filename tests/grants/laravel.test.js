// The front end of the Laravel package, request by request: its page asks at /uploadjobs/ with the session of
// the application, uploads by tus-js-client 1.8 in chunks of 5,000 bytes, and removes by DELETE.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { openBrowser, openPage } from '../clients/lib/browser.js'
import { sourceFile } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { startNginx } from '../hooks/lib/nginx.js'
import { App } from './lib/app.js'
import { withGrants } from './lib/queue.js'

const TUS_1 = new URL('node_modules/tus-js-client-1/dist/tus.js', import.meta.url)

/** What the package's uploader does, in the page; `window.told` holds its events. */
const UPLOADER = `
window.told = []
let asked = 0
window.uploaderFor = (file) => {
  const id = 'cjp' + Date.now().toString(36) + (asked += 1)
  const metadata = { filename: file.name, upload_request_id: id }
  const tell = (event) => window.told.push(event)
  const transport = new tus.Upload(file, {
    retryDelays: [0, 1000, 3000, 5000],
    chunkSize: 5000,
    metadata,
    onError: (error) => tell('upload.failed ' + error),
    onChunkComplete: (chunk, sent, total) => tell('upload.progress ' + sent + '/' + total),
    onSuccess: () => tell('upload.completed'),
  })
  const ask = (method, url, data) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(method, url)
    request.setRequestHeader('Accept', 'application/json, text/plain, */*')
    request.setRequestHeader('X-Requested-With', 'XMLHttpRequest')
    if (data) request.setRequestHeader('Content-Type', 'application/json;charset=utf-8')
    request.onload = () => request.status < 300 ? resolve(JSON.parse(request.responseText)) : reject(request)
    request.onerror = () => reject(request)
    request.send(data && JSON.stringify(data))
  })
  return {
    id,
    async start() {
      tell('upload.started')
      const granted = await ask('POST', '/uploadjobs/', {
        id, filename: file.name, filesize: file.size || '', filetype: file.type || '', ...metadata,
      })
      transport.options.metadata.token = granted.upload_token
      transport.options.endpoint = granted.location
      transport.start()
      return granted
    },
    async stop() {
      transport.abort()
      const row = await ask('DELETE', '/uploadjobs/' + id)
      tell('upload.cancelled')
      return row
    },
    list: () => ask('GET', '/uploadjobs'),
  }
}
`

async function setUp(t) {
  const app = await App.reserve()
  const landfall = await withGrants(t, ['-behind-proxy', '--grants-api', 'laravel', ...app.args, ...app.hooks])
  await app.start(t, '')
  const { origin: inside } = new URL(landfall.endpoint)
  const site = new URL(await startNginx(t, app.origin, { '/files/': inside, '/uploadjobs': inside })).origin
  const { page } = await openPage(t, await openBrowser(t))
  const requests = []
  page.on('response', (response) => {
    requests.push(`${response.request().method()} ${new URL(response.url()).pathname} ${response.status()}`)
  })
  const cookie = await app.signIn('ann')
  const [name, value] = cookie.split('=')
  await page.context().addCookies([{ name, value, url: site, sameSite: 'Lax', httpOnly: true }])
  // The package's page is an application's own; this one has nothing but a file to choose.
  await page.route(`${site}/package`, (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><input type="file" id="file">' }))
  await page.goto(`${site}/package`)
  await page.addScriptTag({ content: await readFile(TUS_1, 'utf8') })
  await page.addScriptTag({ content: UPLOADER })
  return { app, landfall, site, page, requests, cookie }
}

const TIMESTAMP = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d/

async function choose(page, source) {
  await page.setInputFiles('#file', source.path)
  await page.evaluate(() => {
    window.upload = window.uploaderFor(document.getElementById('file').files[0])
  })
}

test('the package: granted, uploaded in small chunks, listed as completed', { timeout: 120_000 }, async (t) => {
  const { app, landfall, site, page, requests, cookie } = await setUp(t)
  const source = await sourceFile(t, 23_456, { name: 'holiday <&>\'.mp4' })
  await choose(page, source)
  const granted = await page.evaluate(() => window.upload.start())
  assert.deepEqual(Object.keys(granted).sort(), ['filename', 'location', 'request_id', 'size', 'upload_token'])
  assert.equal(granted.location, `${site}/files/`)
  assert.deepEqual([granted.filename, granted.size], [source.name, source.size])
  await page.waitForFunction(() => window.told.some((event) => /completed|failed/.test(event)))
  const told = await page.evaluate(() => window.told)
  assert.deepEqual(told, [
    'upload.started',
    ...[5000, 10_000, 15_000, 20_000, 23_456].map((sent) => `upload.progress ${sent}/23456`),
    'upload.completed',
  ])
  assert.ok(requests.includes('POST /uploadjobs/ 200'), requests.join('\n'))
  assert.equal(requests.filter((one) => one === 'POST /files/ 201').length, 1, requests.join('\n'))

  const rows = await page.evaluate(() => window.upload.list())
  assert.equal(rows.length, 1)
  const [row] = rows
  assert.deepEqual(Object.keys(row).sort(), [
    'cancelled_at', 'completed_at', 'created_at', 'filename', 'metadata', 'mimetype', 'offset', 'request_id', 'size',
    'updated_at',
  ])
  assert.deepEqual(
    [row.request_id, row.filename, row.mimetype, row.size, row.offset, row.cancelled_at],
    [granted.request_id, source.name, 'video/mp4', 23_456, 23_456, null])
  for (const name of ['completed_at', 'created_at', 'updated_at']) assert.match(row[name], TIMESTAMP, name)
  const [info] = await landfall.allInfos()
  assert.equal(await landfall.sha256(`${landfall.endpoint}${info.ID}`), source.sha256)
  assert.equal(info.MetaData.filename, source.name)
  await until(async () => (await app.files(cookie)).length === 1)
})

test('the package: stop() removes the upload', { timeout: 120_000 }, async (t) => {
  const { landfall, page, requests } = await setUp(t)
  await choose(page, await sourceFile(t, 2_000_000, { name: 'unwanted.bin' }))
  await page.evaluate(() => window.upload.start())
  await page.waitForFunction(() => window.told.filter((event) => /progress/.test(event)).length > 3)
  const row = await page.evaluate(() => window.upload.stop())
  assert.match(row.cancelled_at, TIMESTAMP)
  assert.equal(row.completed_at, null)
  await until(async () => (await landfall.allInfos()).length === 0)
  const told = await page.evaluate(() => window.told)
  assert.equal(told.at(-1), 'upload.cancelled')
  assert.ok(!told.some((event) => /completed|failed/.test(event)), told.join())
  assert.ok(requests.some((one) => /^DELETE \/uploadjobs\/cjp\w+ 200$/.test(one)), requests.join('\n'))
})

test('the package: an empty file without a type', { timeout: 120_000 }, async (t) => {
  const { page } = await setUp(t)
  await choose(page, await sourceFile(t, 0, { name: 'empty' }))
  const granted = await page.evaluate(() => window.upload.start())
  assert.equal(granted.size, 0)
  await page.waitForFunction(() => window.told.some((event) => /completed|failed/.test(event)))
  assert.ok((await page.evaluate(() => window.told)).includes('upload.completed'))
  const [row] = await page.evaluate(() => window.upload.list())
  assert.match(row.completed_at, TIMESTAMP)
  assert.equal(row.mimetype, null)
})

test("the package: errors have Laravel's format", { timeout: 120_000 }, async (t) => {
  const { app, site, cookie } = await setUp(t)
  const ask = async (method, path, body, headers = {}) => {
    const answer = await fetch(`${site}${path}`, {
      method,
      headers: { 'Content-Type': 'application/json', 'X-Requested-With': 'XMLHttpRequest', ...headers },
      body: body && JSON.stringify(body),
    })
    return { status: answer.status, body: await answer.json() }
  }
  const file = { id: 'one', filename: 'a.bin', filesize: 1, filetype: '' }
  const stranger = await ask('POST', '/uploadjobs', file)
  assert.deepEqual([stranger.status, stranger.body.message], [401, 'Unauthenticated.'])
  const signedIn = { Cookie: cookie }
  const invalid = await ask('POST', '/uploadjobs', { filesize: -1 }, signedIn)
  assert.equal(invalid.status, 422)
  assert.deepEqual(Object.keys(invalid.body.errors).sort(), ['filename', 'filesize', 'id'])
  for (const messages of Object.values(invalid.body.errors)) assert.ok(Array.isArray(messages) && messages.length > 0)
  const foreign = await ask('POST', '/uploadjobs', file, { ...signedIn, Origin: 'http://evil.example', 'Sec-Fetch-Site': 'cross-site' })
  assert.equal(foreign.status, 419)
  assert.equal((await ask('DELETE', '/uploadjobs/unknown', undefined, signedIn)).status, 404)

  // Two people may use the same id, and see nothing of each other.
  const bob = { Cookie: await app.signIn('bob') }
  assert.equal((await ask('POST', '/uploadjobs', file, signedIn)).status, 200)
  assert.equal((await ask('POST', '/uploadjobs', { ...file, filename: 'b.bin' }, bob)).status, 200)
  const [mine] = (await ask('GET', '/uploadjobs', undefined, signedIn)).body
  assert.equal(mine.filename, 'a.bin')
})
