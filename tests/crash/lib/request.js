// A plain HTTP request that reports how much was sent before the connection broke.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { request as send } from 'node:http'

const TIMEOUT_MS = 20_000
/** Between two pieces of a slow body. */
const PIECE_MS = 2_500

/** A request without a response: its connection broke or was not established. */
export class Unanswered extends Error {}

/**
 * Sends a request and gives its status and headers. `body` is a Buffer; with `trailers` it is sent in
 * chunks, with these fields after it. It takes `duration` milliseconds to send, but once `hurry`, a signal, is aborted
 * the rest is sent at once.
 */
export function ask(method, url, { headers = {}, body, trailers, duration = 0, hurry } = {}) {
  return new Promise((resolve, reject) => {
    const fail = (error) => reject(new Unanswered(`${method} ${url}: ${error.message}`))
    const fields = { 'Tus-Resumable': '1.0.0', ...headers }
    if (body && !trailers) fields['Content-Length'] = body.length
    if (!body && (method === 'POST' || method === 'PATCH')) fields['Content-Length'] = 0
    if (trailers) fields.Trailer = Object.keys(trailers).join(', ')
    let timer
    const sent = send(url, { method, headers: fields, agent: false }, (response) => {
      response.resume()
      response.once('error', fail)
      response.once('end', () => {
        // It may have come before the whole body was sent.
        if (timer) sent.destroy()
        resolve({ status: response.statusCode, headers: response.headers })
      })
    })
    sent.on('error', fail)
    sent.once('close', () => {
      clearInterval(timer)
      hurry?.removeEventListener('abort', sendPiece)
    })
    sent.setTimeout(TIMEOUT_MS, () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)))
    if (trailers) {
      sent.addTrailers(trailers)
      sent.useChunkedEncodingByDefault = true
    }
    if (!body || duration < PIECE_MS) {
      sent.end(body)
      return
    }
    const step = Math.ceil((body.length * PIECE_MS) / duration)
    let start = 0
    function sendPiece() {
      if (start >= body.length) return
      const end = hurry?.aborted ? body.length : start + step
      sent.write(body.subarray(start, end))
      start = end
      if (start < body.length) return
      clearInterval(timer)
      timer = undefined
      sent.end()
    }
    timer = setInterval(sendPiece, PIECE_MS)
    hurry?.addEventListener('abort', sendPiece)
    sendPiece()
  })
}

/** `Upload-Checksum` of a body, or a wrong one. */
export function checksum(body, isRight = true) {
  const hash = createHash('sha1').update(body)
  if (!isRight) hash.update('!')
  return `sha1 ${hash.digest('base64')}`
}

export const BYTES = { 'Content-Type': 'application/offset+octet-stream' }

/** Creates an upload of `source` with its bytes up to `end`; returns its URL. */
export async function create(endpoint, source, end = source.length) {
  const { status, headers } = await ask('POST', endpoint, {
    headers: { 'Upload-Length': source.length, ...BYTES },
    body: source.subarray(0, end),
  })
  assert.equal(status, 201)
  return headers.location
}

/** Sends the bytes of an upload from `start` up to `end`; `what` is said if that fails. */
export async function append(url, source, start, { end = source.length, what = url } = {}) {
  const { status } = await ask('PATCH', url, {
    headers: { 'Upload-Offset': start, ...BYTES },
    body: source.subarray(start, end),
  })
  assert.equal(status, 204, `PATCH: ${what}`)
}

/** Checks that HEAD finds an upload at `offset`; returns its headers. */
export async function assertOffset(url, offset, what = url) {
  const { status, headers } = await ask('HEAD', url)
  assert.equal(status, 200, `HEAD: ${what}`)
  assert.equal(Number(headers['upload-offset']), offset, what)
  return headers
}
