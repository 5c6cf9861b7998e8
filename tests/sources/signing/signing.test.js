// The browser puts files into a bucket by itself; Landfall signs, behind the application's address. The bucket is one of
// Ceph: like Amazon's, it verifies signatures and honors conditions.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request as ask } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openBrowser, openPage } from '../../clients/lib/browser.js'
import { Landfall } from '../../clients/lib/landfall.js'
import { MIB, sha256, sourceFile, tempDir } from '../../clients/lib/source.js'
import { until } from '../../clients/lib/tus.js'
import { startCeph } from '../../direct/lib/ceph.js'
import { setCors } from '../../direct/lib/setup.js'
import { freePort, serve } from '../../hooks/lib/programs.js'
import { object, objects } from '../../nodes/lib/bucket.js'

const SERVER = fileURLToPath(new URL('app/server.js', import.meta.url))

/** A proxy that sends `/api/sign_s3` to one port and everything else to another one; gives its origin. */
async function startProxy(t, app, signer) {
  const proxy = createServer((request, response) => {
    const headers = {
      ...request.headers,
      'x-forwarded-for': request.socket.remoteAddress,
      'x-forwarded-host': request.headers.host,
      'x-forwarded-proto': 'http',
    }
    const port = request.url === '/api/sign_s3' ? signer : app
    const upstream = ask({ host: '127.0.0.1', port, method: request.method, path: request.url, headers })
    upstream.on('response', (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders)
      answer.pipe(response)
    })
    upstream.on('error', () => response.writeHead(502).end())
    request.pipe(upstream)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.after(() => {
    proxy.closeAllConnections()
    proxy.close()
  })
  return `http://127.0.0.1:${proxy.address().port}`
}

test('an application whose browsers put files into a bucket', { timeout: 240_000 }, async (t) => {
  const place = await startCeph(t)
  const port = await freePort()
  await serve(t, port, process.execPath, [SERVER], { env: { ...process.env, PORT: String(port) } })
  const landfall = await Landfall.start(t, {
    env: { AWS_REGION: place.region, AWS_ACCESS_KEY_ID: place.accessKey, AWS_SECRET_ACCESS_KEY: place.secretKey },
    args: [
      '-direct',
      '-behind-proxy',
      ...['-database', join(await tempDir(t), 'landfall.db')],
      ...['-s3-bucket', place.bucket],
      ...['-s3-endpoint', place.endpoint],
      ...['-grants-forward-auth-url', `http://127.0.0.1:${port}/auth`],
      ...['-direct-poll-interval', '1s'],
    ],
  })
  const origin = await startProxy(t, port, landfall.port)
  await setCors(place, origin)
  const browser = await openBrowser(t)
  const login = { method: 'POST', body: '{"name":"ann"}' }
  const cookie = (await fetch(`${origin}/login`, login)).headers.get('Set-Cookie').split(';')[0]
  const headers = { cookie }

  async function send(t, path, source) {
    const { page } = await openPage(t, browser)
    t.after(() => page.context().close())
    const [name, value] = cookie.split('=')
    await page.context().addCookies([{ name, value, url: origin }])
    await page.goto(`${origin}/${path}`)
    const sent = page.waitForRequest((request) => request.method() === 'PUT')
    await page.setInputFiles('#file', source.path)
    await page.waitForFunction(() => document.querySelector('#status').textContent !== '')
    const status = await page.textContent('#status')
    assert.match(status, /^saved /, status)
    return { url: status.replace('saved ', ''), sent: await (await sent).allHeaders() }
  }

  const keyOf = (url) => decodeURIComponent(new URL(url).pathname).replace(`/${place.bucket}/`, '')

  for (const path of ['index.html', 'fetch.html']) {
    for (const [name, key, type] of [
      ['My Holiday Photo.JPG', 'my_holiday_photo.jpg', 'image/jpeg'],
      ['README', 'readme', 'application/octet-stream'],
      [' two  blanks & (more) ü.unknown', 'two__blanks_&_(more)_ü.unknown', 'application/octet-stream'],
      ['Report.PDF', 'report.pdf', 'application/pdf'],
    ]) {
      await t.test(`${path}: ${name}`, async (t) => {
        const source = await sourceFile(t, name === 'Report.PDF' ? 3 * MIB : 10_000, { name })
        const { url, sent } = await send(t, path, source)
        assert.equal(sent.cookie, undefined)
        assert.equal(keyOf(url).replace(/^uploads\/[0-9a-f-]{36}\//, ''), key)
        const { data, headers: stored } = await object(place, keyOf(url))
        assert.equal(sha256(data), source.sha256)
        if (sent['content-type']) assert.equal(stored.get('Content-Type'), type)
        const rows = await (await fetch(`${origin}/api/uploads`)).json()
        assert.deepEqual(rows.at(-1), { user: 'ann', name, type, size: source.size, uri: url })
      })
    }
  }

  await t.test('the server finds every file', async () => {
    const jobs = async () => (await fetch(`${landfall.origin}/uploadjobs`, { headers })).json()
    landfall.origin = new URL(landfall.endpoint).origin
    await until(async () => (await jobs()).every(({ state }) => state === 'completed'))
    assert.equal((await jobs()).length, 8)
  })

  await t.test('nobody signs for strangers', async () => {
    const body = JSON.stringify({ file_name: 'a', file_type: '' })
    const json = { 'Content-Type': 'application/json' }
    const stranger = await fetch(`${origin}/api/sign_s3`, { method: 'POST', headers: json, body })
    assert.equal(stranger.status, 401)
    const before = await objects(place)
    const elsewhere = await fetch(`${origin}/api/sign_s3`, {
      method: 'POST', headers: { ...json, ...headers, Origin: 'https://elsewhere.example' }, body,
    })
    assert.equal(elsewhere.status, 403)
    assert.deepEqual(await objects(place), before)
  })
})
