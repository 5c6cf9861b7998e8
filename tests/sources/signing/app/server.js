// A small web application: people log in, pick files, and the browser puts them into the bucket by itself.
// Whoever signs the uploads is behind the same address, at /api/sign_s3.
//
//   node server.js        listens on $PORT, and prints a line when it does

import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'

const pages = new URL('./public/', import.meta.url)
const types = { html: 'text/html', js: 'text/javascript' }
const sessions = new Map()
const uploads = []

function user(request) {
  const [, id] = /(?:^|; )session=([0-9a-f]+)/.exec(request.headers.cookie ?? '') ?? []
  return sessions.get(id)
}

async function body(request) {
  let text = ''
  for await (const chunk of request) text += chunk
  return JSON.parse(text)
}

const routes = {
  'POST /login': async (request) => {
    const { name } = await body(request)
    const id = randomBytes(16).toString('hex')
    sessions.set(id, name)
    return { status: 204, headers: { 'Set-Cookie': `session=${id}; HttpOnly; SameSite=Lax; Path=/` } }
  },
  // For the proxy: who is it?
  'GET /auth': (request) => {
    const name = user(request)
    return name ? { status: 200, headers: { 'Remote-User': name } } : { status: 401 }
  },
  'POST /api/uploads': async (request) => {
    const upload = { user: user(request), ...(await body(request)) }
    uploads.push(upload)
    return { status: 201, json: upload }
  },
  'GET /api/uploads': () => ({ status: 200, json: uploads }),
}

async function page(path) {
  const name = path === '/' ? 'index.html' : path.slice(1)
  if (!/^[a-z]+\.(html|js)$/.test(name)) return { status: 404 }
  try {
    const text = await readFile(new URL(name, pages))
    return { status: 200, text, headers: { 'Content-Type': `${types[name.split('.').pop()]}; charset=utf-8` } }
  } catch {
    return { status: 404 }
  }
}

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://app')
  const route = routes[`${request.method} ${pathname}`]
  const answer = await (route ? route(request) : page(pathname))
  const json = answer.json && JSON.stringify(answer.json)
  response.writeHead(answer.status, { ...(json ? { 'Content-Type': 'application/json' } : {}), ...answer.headers })
  response.end(json ?? answer.text)
})

server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('listening'))
