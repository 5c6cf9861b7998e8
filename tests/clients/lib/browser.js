// Chromium for tests, and a web server for the pages it opens.

import { accessSync, constants } from 'node:fs'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { chromium } from 'playwright-core'

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
}

/** Chromium of the system; $CHROMIUM names another one. */
function executable() {
  const path = process.env.CHROMIUM ?? '/usr/bin/chromium'
  accessSync(path, constants.X_OK)
  return path
}

/**
 * Starts a browser that ends with test `t`; `args` are further flags of Chromium's, without which it has no
 * HTTP/3.
 */
export async function openBrowser(t, args = []) {
  const browser = await chromium.launch({
    executablePath: executable(),
    headless: true,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      ...(args.includes('--enable-quic') ? [] : ['--disable-quic']),
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...args,
    ],
  })
  t.after(() => browser.close())
  return browser
}

/**
 * A page of its own context that reports to test `t` what goes wrong inside.
 * `preflights` collects the CORS preflight requests that Chromium makes, `responses` the URL and version of HTTP
 * (`http/1.1`, `h2`, `h3`) of each response.
 */
export async function openPage(t, browser) {
  const context = await browser.newContext()
  const page = await context.newPage()
  page.on('pageerror', (error) => t.diagnostic(`page: ${error.message}`))
  const preflights = []
  const session = await context.newCDPSession(page)
  await session.send('Network.enable')
  session.on('Network.requestWillBeSent', ({ request }) => {
    if (request.headers['Access-Control-Request-Method']) preflights.push(request)
  })
  const responses = []
  session.on('Network.responseReceived', ({ response }) => {
    responses.push({ url: response.url, version: response.protocol })
  })
  return { page, preflights, responses }
}

/**
 * Serves `files`, a map from path to content, and below that the folder `root` if given.
 * Gives the origin, which is another one than the upload server's.
 */
export async function serveSite(t, { files = {}, root = null }) {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, 'http://site').pathname)
    const name = path.endsWith('/') ? `${path}index.html` : path
    try {
      const body = files[name] ?? (root ? await readFile(join(root, name)) : null)
      if (body === null) throw new Error('no such file')
      response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream' })
      response.end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}
