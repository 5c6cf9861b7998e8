// A minimal application with users and sessions, without tus code: it authenticates users for Landfall (forward auth)
// and receives events of their uploads.
//
//   PORT       port to listen on; default 9000
//   LANDFALL   URL of Landfall for browsers; default http://localhost:8080, empty: the same host

import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const SITE = fileURLToPath(new URL('dist', import.meta.url))
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css' }
const MAX_BODY_BYTES = 1024 * 1024

/** Users by session. */
const sessions = new Map()
/** Completed files by user. */
const files = new Map()

function userOf(request) {
  const [, session] = /(?:^|;\s*)session=([\w-]+)/.exec(request.headers.cookie ?? '') ?? []
  return sessions.get(session)
}

async function bodyOf(request) {
  let text = ''
  for await (const piece of request.setEncoding('utf8')) {
    text += piece
    if (text.length > MAX_BODY_BYTES) throw new Error('too large')
  }
  return text
}

function json(response, status, body, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', ...headers })
  response.end(JSON.stringify(body))
}

const routes = {
  // A real application would check a password.
  async 'POST /login'(request, response) {
    const name = new URLSearchParams(await bodyOf(request)).get('name')
    if (!name) return json(response, 422, { message: 'who are you?' })
    const session = randomBytes(32).toString('base64url')
    sessions.set(session, name)
    return json(response, 200, { name }, { 'Set-Cookie': `session=${session}; Path=/; HttpOnly; SameSite=Lax` })
  },

  'GET /me': (request, response) => json(response, 200, { name: userOf(request) ?? null }),

  'GET /settings.json': (request, response) =>
    json(response, 200, { landfall: process.env.LANDFALL ?? 'http://localhost:8080' }),

  // Forward auth: Landfall forwards the cookie. The response may also set limits.
  'GET /authorize'(request, response) {
    const name = userOf(request)
    if (!name) return json(response, 401, { message: 'please sign in' })
    return json(response, 200, { subject: name, admin: name === 'root' })
  },

  // Events are delivered at least once, so this is idempotent.
  async 'POST /hooks'(request, response) {
    const { Type, Event } = JSON.parse(await bodyOf(request))
    if (Type === 'UploadCompleted') {
      const { Subject, RequestID, Filename, Size } = Event.Job
      if (!files.has(Subject)) files.set(Subject, new Map())
      files.get(Subject).set(RequestID, { filename: Filename, size: Size, upload: Event.Upload.ID })
    }
    response.writeHead(204).end()
  },

  'GET /files.json'(request, response) {
    const name = userOf(request)
    if (!name) return json(response, 401, { message: 'please sign in' })
    return json(response, 200, [...(files.get(name)?.values() ?? [])])
  },
}

async function serveFile(pathname, response) {
  const path = normalize(decodeURIComponent(pathname))
  const name = path.endsWith('/') ? `${path}index.html` : path
  try {
    const body = await readFile(join(SITE, name))
    response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream' }).end(body)
  } catch {
    response.writeHead(404).end()
  }
}

const server = createServer(async (request, response) => {
  try {
    const { pathname } = new URL(request.url, 'http://app')
    const route = routes[`${request.method} ${pathname}`]
    await (route ? route(request, response) : serveFile(pathname, response))
  } catch (error) {
    console.error(error)
    response.destroy()
  }
})
const port = Number(process.env.PORT ?? 9000)
server.listen(port, '127.0.0.1', () => console.log(`http://localhost:${port}/`))
