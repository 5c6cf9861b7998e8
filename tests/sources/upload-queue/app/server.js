// An application with a queue of uploads: a browser asks for a token and uploads with it to tusd, which calls the hooks
// below. The queue can also be another program's that sends events.
//
//   node server.js        listens on $PORT; $TUS_URL is where files go, $STORAGE where tusd
// keeps them, $FILES where they belong, $TUS_JS tus-js-client

import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync } from 'node:fs'
import { readFile, rename, unlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'

const HOUR = 60 * 60 * 1000
const { PORT, TUS_URL, STORAGE, FILES, TUS_JS } = process.env
const pages = new URL('./public/', import.meta.url)
const sessions = new Map()
const queue = new Map()
const events = []
mkdirSync(FILES, { recursive: true })

function user(request) {
  const [, id] = /(?:^|; )session=([0-9a-f]+)/.exec(request.headers.cookie ?? '') ?? []
  return sessions.get(id)
}

const shown = ({ token, expires, started, tus_id, user, ...row }) => row

async function body(request) {
  let text = ''
  for await (const chunk of request) text += chunk
  return text && JSON.parse(text)
}

async function store(request) {
  const owner = user(request)
  if (!owner) return { status: 401, json: { message: 'Unauthenticated.' } }
  const { id, filename, filesize, filetype, ...metadata } = await body(request)
  if (!id || !filename) return { status: 422, json: { message: 'The given data was invalid.' } }
  const row = {
    request_id: id,
    user: owner,
    token: randomBytes(30).toString('hex'),
    expires: Date.now() + HOUR,
    filename,
    mimetype: filetype ?? null,
    size: filesize,
    offset: 0,
    metadata,
    completed_at: null,
    cancelled_at: null,
  }
  queue.set(id, row)
  const { token } = row
  return { status: 200, json: { request_id: id, upload_token: token, filename, size: filesize, location: TUS_URL } }
}

const refuse = (status, message) => ({
  RejectUpload: true,
  HTTPResponse: { StatusCode: status, Body: JSON.stringify({ message }), Header: { 'Content-Type': 'application/json' } },
})

function find({ MetaData: { upload_request_id: id, token } }) {
  const row = queue.get(id)
  return row?.token === token ? row : undefined
}

/** Moves a finished file away, as soon as it is told of. */
async function move(path, id, filename) {
  await rename(path, join(FILES, `${id} ${filename}`))
  if (existsSync(`${path}.info`)) await unlink(`${path}.info`)
}

const hooks = {
  'pre-create': ({ Upload }) => {
    const row = find(Upload)
    if (!row || !Upload.MetaData.filename) return refuse(403, 'unknown token')
    if (Date.now() >= row.expires) return refuse(410, 'token expired')
    if (row.started) return refuse(409, 'token already used')
    row.started = true
    return {}
  },
  'post-receive': ({ Upload }) => {
    const row = find(Upload)
    if (row.completed_at || row.cancelled_at) return {}
    row.tus_id = Upload.ID
    row.offset = Math.max(row.offset, Upload.Offset)
    events.push({ type: 'progress', id: row.request_id, offset: Upload.Offset })
    return {}
  },
  'post-finish': async ({ Upload }) => {
    const row = find(Upload)
    row.completed_at = new Date().toISOString()
    row.offset = Upload.Size
    await move(Upload.Storage.Path, row.request_id, row.filename)
    events.push({ type: 'completed', id: row.request_id, size: Upload.Size })
    return {}
  },
  'post-terminate': ({ Upload }) => {
    const row = find(Upload)
    row.cancelled_at ??= new Date().toISOString()
    events.push({ type: 'cancelled', id: row.request_id })
    return {}
  },
  // Of a queue that sends events.
  UploadProgress: ({ Job }) => {
    events.push({ type: 'progress', id: Job.RequestID, offset: Job.Offset })
    return {}
  },
  UploadCompleted: async ({ Job, Upload }) => {
    await move(join(STORAGE, Upload.ID), Job.RequestID, Job.Filename)
    events.push({ type: 'completed', id: Job.RequestID, size: Job.Offset, metadata: Job.MetaData })
    return {}
  },
  UploadCancelled: ({ Job }) => {
    events.push({ type: 'cancelled', id: Job.RequestID })
    return {}
  },
}

const routes = {
  'POST /login': async (request) => {
    const { name } = await body(request)
    const id = randomBytes(16).toString('hex')
    sessions.set(id, name)
    return { status: 204, headers: { 'Set-Cookie': `session=${id}; HttpOnly; SameSite=Lax; Path=/` } }
  },
  'GET /authorize': (request) => {
    const subject = user(request)
    return subject ? { status: 200, json: { subject } } : { status: 401, json: { message: 'Unauthenticated.' } }
  },
  'GET /uploadjobs': (request) => ({ status: 200, json: [...queue.values()].filter((row) => row.user === user(request)).map(shown) }),
  'POST /uploadjobs': store,
  'POST /tus-hook': async (request) => {
    const { Type, Event } = await body(request)
    return { status: 200, json: await hooks[Type](Event) }
  },
  'GET /events': () => ({ status: 200, json: events }),
  'GET /': async () => ({ status: 200, text: await readFile(new URL('index.html', pages)), headers: { 'Content-Type': 'text/html' } }),
  'GET /queue.js': async () => ({ status: 200, text: await readFile(new URL('queue.js', pages)), headers: { 'Content-Type': 'text/javascript' } }),
  'GET /tus.js': async () => ({ status: 200, text: await readFile(TUS_JS), headers: { 'Content-Type': 'text/javascript' } }),
}

async function destroy(request, id) {
  const row = queue.get(id)
  if (row?.user !== user(request)) return { status: 404, json: { message: 'Not found.' } }
  row.cancelled_at ??= new Date().toISOString()
  return { status: 200, json: shown(row) }
}

const server = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://app').pathname
  const [, id] = /^\/uploadjobs\/([^/]+)$/.exec(path) ?? []
  let answer
  try {
    if (request.method === 'DELETE' && id) answer = await destroy(request, decodeURIComponent(id))
    else answer = (await routes[`${request.method} ${path.replace(/(.)\/$/, '$1')}`]?.(request)) ?? { status: 404 }
  } catch (error) {
    console.error(error)
    answer = { status: 500, json: { message: 'Server Error' } }
  }
  const json = answer.json && JSON.stringify(answer.json)
  response.writeHead(answer.status, { ...(json ? { 'Content-Type': 'application/json' } : {}), ...answer.headers })
  response.end(json ?? answer.text)
})

server.listen(Number(PORT), '127.0.0.1', () => console.log('listening'))
