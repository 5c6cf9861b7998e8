// An application with a queue of uploads: with its own queue and tusd's hooks, and with Landfall's queue, whose events it
// receives instead.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { createServer, request as ask } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openBrowser, openPage } from '../../clients/lib/browser.js'
import { Landfall } from '../../clients/lib/landfall.js'
import { sha256, sourceFile, tempDir } from '../../clients/lib/source.js'
import { until } from '../../clients/lib/tus.js'
import { freePort, serve } from '../../hooks/lib/programs.js'

const SERVER = fileURLToPath(new URL('app/server.js', import.meta.url))
const TUS_JS = fileURLToPath(new URL('../../clients/node_modules/tus-js-client/dist/tus.min.js', import.meta.url))

/** The site: a proxy whose paths that begin with a key of `routes` go to that port, and others to `app`. */
class Site {
  /** Set: the second half of each PATCH waits for it. */
  gate
  routes = {}

  static async start(t, app) {
    const site = new Site()
    const server = createServer((request, response) => site.#pass(request, response, app))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    site.origin = `http://127.0.0.1:${server.address().port}`
    return site
  }

  #pass(request, response, app) {
    const [, port = app] = Object.entries(this.routes).find(([path]) => request.url.startsWith(path)) ?? []
    const headers = {
      ...request.headers,
      'x-forwarded-for': request.socket.remoteAddress,
      'x-forwarded-host': request.headers.host,
      'x-forwarded-proto': 'http',
    }
    const upstream = ask({ host: '127.0.0.1', port, method: request.method, path: request.url, headers })
    upstream.on('response', (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders)
      answer.pipe(response)
    })
    upstream.on('error', () => response.destroy())
    response.on('close', () => upstream.destroy())
    this.#forward(request, upstream).catch(() => upstream.destroy())
  }

  async #forward(request, upstream) {
    const half = Number(request.headers['content-length'] ?? 0) / 2
    let sent = 0
    for await (const chunk of request) {
      if (request.method === 'PATCH' && sent <= half && sent + chunk.length > half) {
        const rest = Math.ceil(half) - sent
        upstream.write(chunk.subarray(0, rest))
        await this.gate
        upstream.write(chunk.subarray(rest))
      } else upstream.write(chunk)
      sent += chunk.length
    }
    upstream.end()
  }
}

/** The application, Landfall, the site of both, and a browser whose user has logged in. */
async function setUp(t, makeArgs) {
  const dir = await tempDir(t)
  const port = await freePort()
  const site = await Site.start(t, port)
  const [storage, files] = [join(dir, 'uploads'), join(dir, 'files')]
  await serve(t, port, process.execPath, [SERVER], {
    env: { ...process.env, PORT: String(port), TUS_URL: `${site.origin}/uploads/`, STORAGE: storage, FILES: files, TUS_JS },
  })
  const args = ['-base-path', '/uploads/', '-behind-proxy', '-hooks-http', `http://127.0.0.1:${port}/tus-hook`]
  const landfall = await Landfall.start(t, { shared: storage, args: [...args, ...makeArgs(port)] })
  site.routes['/uploads/'] = landfall.port
  const login = await fetch(`${site.origin}/login`, { method: 'POST', body: '{"name":"ann"}' })
  const cookie = login.headers.get('Set-Cookie').split(';')[0]
  const browser = await openBrowser(t)
  const { page } = await openPage(t, browser)
  const [name, value] = cookie.split('=')
  await page.context().addCookies([{ name, value, url: site.origin }])
  const events = async (type) => {
    const all = await (await fetch(`${site.origin}/events`)).json()
    return all.filter((event) => event.type === type)
  }
  const jobs = async () => (await fetch(`${site.origin}/uploadjobs`, { headers: { cookie } })).json()
  return { site, landfall, storage, files, page, events, jobs }
}

/** What the page says of a file, until it says the last word. */
async function choose({ site, page }, source, last = /^(completed|failed|refused|cancelled)/) {
  await page.goto(site.origin)
  await page.setInputFiles('#file', source.path)
  return said(page, last)
}

async function said(page, last) {
  const lines = () => page.locator('#log li').allTextContents()
  await until(async () => (await lines()).some((line) => last.test(line)))
  return lines()
}

async function scenario(t, world) {
  const { site, page, events, jobs, files, storage } = world
  for (const [name, size, mimetype] of [
    ['Holiday <&> \'1\'.MP4', 1_234_567, 'video/mp4'],
    ['no type', 9_999, null],
    ['no type either', 10_000, null],
    ['empty.txt', 0, 'text/plain'],
  ]) {
    await t.test(`${name}, ${size} bytes`, async (t) => {
      const source = await sourceFile(t, size, { name })
      const [granted, ended] = await choose(world, source)
      assert.deepEqual(ended, 'completed')
      const id = granted.replace('granted ', '')
      await until(async () => (await events('completed')).some((event) => event.id === id))
      const [event, ...again] = (await events('completed')).filter((event) => event.id === id)
      assert.deepEqual([event.size, again], [size, []])
      // It was moved away when the application was told, and nothing is left of it.
      assert.equal(sha256(await readFile(join(files, `${id} ${name}`))), source.sha256)
      const left = async () => (await readdir(storage)).filter((file) => /^[0-9a-f]{32}/.test(file))
      await until(async () => (await left()).length === 0)
      await until(async () => (await jobs()).find((job) => job.request_id === id).completed_at)
      const job = (await jobs()).find((job) => job.request_id === id)
      assert.deepEqual([job.filename, job.mimetype, job.size, job.offset], [name, mimetype, size, size])
      assert.deepEqual(job.metadata, { album: 'summer' })
      assert.equal(job.cancelled_at, null)
    })
  }

  await t.test('a token is for one upload', async () => {
    const second = await page.evaluate(async () => {
      const { job, file } = window.last
      const encode = (text) => btoa(unescape(encodeURIComponent(text)))
      const metadata = { filename: 'another', upload_request_id: job.request_id, token: job.upload_token }
      const response = await fetch(job.location, {
        method: 'POST',
        headers: {
          'Tus-Resumable': '1.0.0',
          'Upload-Length': String(file.size + 1),
          'Upload-Metadata': Object.entries(metadata).map(([name, value]) => `${name} ${encode(value)}`).join(','),
        },
      })
      return response.status
    })
    assert.ok(second >= 400 && second < 500, String(second))
  })

  await t.test('without a token, or with another one', async () => {
    for (const metadata of [{}, { filename: 'x', token: 'none', upload_request_id: 'none' }]) {
      const pairs = Object.entries(metadata).map(([name, value]) => `${name} ${btoa(value)}`)
      const headers = { 'Tus-Resumable': '1.0.0', 'Upload-Length': '5' }
      if (pairs.length) headers['Upload-Metadata'] = pairs.join(',')
      const refused = await fetch(`${site.origin}/uploads/`, { method: 'POST', headers })
      assert.ok([401, 403].includes(refused.status), String(refused.status))
    }
  })

  await t.test('progress, and cancellation', async (t) => {
    const source = await sourceFile(t, 1_500_000, { name: 'cancelled.bin', seed: 7 })
    let open
    site.gate = new Promise((resolve) => { open = resolve })
    t.after(() => open())
    const [granted] = await choose(world, source, /^granted/)
    const id = granted.replace('granted ', '')
    const progress = async () => (await events('progress')).filter((event) => event.id === id)
    await until(async () => (await progress()).length > 0)
    assert.ok((await progress())[0].offset <= source.size)
    await page.click('#cancel')
    await until(async () => (await events('cancelled')).some((event) => event.id === id))
    assert.ok((await said(page, /^(cancelled|failed)/)).includes('cancelled'))
    const job = (await jobs()).find((job) => job.request_id === id)
    assert.ok(job.cancelled_at && !job.completed_at, JSON.stringify(job))
    assert.equal((await events('cancelled')).filter((event) => event.id === id).length, 1)
    assert.equal((await events('completed')).filter((event) => event.id === id).length, 0)
    assert.deepEqual((await readdir(storage)).filter((file) => /^[0-9a-f]{32}/.test(file)), [])
    assert.ok(!existsSync(join(files, `${id} cancelled.bin`)))
  })
}

test('the queue is the application\'s', { timeout: 240_000 }, async (t) => {
  const hooks = 'pre-create,post-receive,post-finish,post-terminate'
  await scenario(t, await setUp(t, () => ['-hooks-enabled-events', hooks]))
})

test('the queue is Landfall\'s', { timeout: 240_000 }, async (t) => {
  const world = await setUp(t, (port) => [
    '-require-grant',
    ...['-grants-api', 'laravel'],
    ...['-grants-forward-auth-url', `http://127.0.0.1:${port}/authorize`],
    ...['-hooks-enabled-events', 'UploadProgress,UploadCompleted,UploadCancelled'],
  ])
  world.site.routes['/uploadjobs'] = world.landfall.port
  await scenario(t, world)
})
