// A client for many small uploads: a few persistent connections, one request per upload.

import { Agent, request } from 'node:http'
import { TUS } from './start.js'

function send(agent, method, url, headers, body) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, agent, headers: { ...TUS, ...headers } }, (response) => {
      response.resume()
      response.on('end', () => resolve(response)).on('error', reject)
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

async function expect(status, answering) {
  const response = await answering
  if (response.statusCode !== status) {
    throw new Error(`${response.req.method} ${response.req.path}: ${response.statusCode}`)
  }
  return response
}

/**
 * Creates `count` uploads over `connections` connections, and removes those with `removes(n)`.
 * Returns the URL of each and whether it was removed.
 */
export async function uploadManySmall(endpoint, count, { connections = 16, removes = () => false } = {}) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const done = []
  let next = 0
  const worker = async () => {
    while (next < count) {
      const n = next
      next += 1
      const body = Buffer.from(`upload ${n}`)
      const created = await expect(201, send(agent, 'POST', endpoint, {
        'Upload-Length': body.length,
        'Content-Length': body.length,
        'Content-Type': 'application/offset+octet-stream',
      }, body))
      const url = new URL(created.headers.location, endpoint).href
      if (removes(n)) await expect(204, send(agent, 'DELETE', url, {}))
      done.push({ url, isRemoved: removes(n) })
    }
  }
  try {
    await Promise.all(Array.from({ length: connections }, worker))
  } finally {
    agent.destroy()
  }
  return done
}
