// Uses a bucket without landfall.

import { createHash, createHmac } from 'node:crypto'

const hash = (text) => createHash('sha256').update(text).digest('hex')
const hmac = (key, text) => createHmac('sha256', key).update(text).digest()

const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)

/** A signed request to the bucket, or to an object in it (AWS Signature Version 4). */
async function send({ endpoint, region, bucket, accessKey, secretKey }, method, key, query = {}, body = '') {
  const { host } = new URL(endpoint)
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  const day = time.slice(0, 8)
  const scope = `${day}/${region}/s3/aws4_request`
  const payload = hash(body)
  const pairs = Object.entries(query)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&')
  const path = key === undefined ? `/${bucket}` : `/${bucket}/${key.split('/').map(encode).join('/')}`
  const signedHeaders = 'host;x-amz-content-sha256;x-amz-date'
  const canonical = [
    method,
    path,
    pairs,
    `host:${host}`,
    `x-amz-content-sha256:${payload}`,
    `x-amz-date:${time}`,
    '',
    signedHeaders,
    payload,
  ].join('\n')
  const secret = ['s3', 'aws4_request'].reduce(hmac, hmac(hmac(`AWS4${secretKey}`, day), region))
  const signature = createHmac('sha256', secret)
    .update(['AWS4-HMAC-SHA256', time, scope, hash(canonical)].join('\n'))
    .digest('hex')
  const response = await fetch(`${endpoint}${path}?${pairs}`, {
    method,
    headers: {
      'x-amz-date': time,
      'x-amz-content-sha256': payload,
      Authorization: `AWS4-HMAC-SHA256 Credential=${accessKey}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`,
    },
    body: method === 'GET' ? undefined : body,
  })
  if (response.ok) return response
  const error = new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  throw Object.assign(error, { status: response.status })
}

/** The text of `element` in a response, unescaped. */
const texts = (xml, element) =>
  [...xml.matchAll(new RegExp(`<${element}>([^<]*)</${element}>`, 'g'))].map(([, text]) =>
    text.replace(/&(#(\d+)|quot|apos|lt|gt|amp);/g, (_, name, code) =>
      code ? String.fromCharCode(code) : { quot: '"', apos: "'", lt: '<', gt: '>', amp: '&' }[name],
    ),
  )

/** What `read` finds, by default the keys, in all pages of a listing; each page names the next one in `markers`, `{ element: parameter }`. */
async function list(place, query, markers, read = (xml) => texts(xml, 'Key')) {
  const found = []
  for (let next = {}; ; ) {
    const xml = await (await send(place, 'GET', undefined, { ...query, ...next })).text()
    found.push(...read(xml))
    if (!xml.includes('<IsTruncated>true')) return found
    next = Object.fromEntries(
      Object.entries(markers).map(([element, parameter]) => [parameter, texts(xml, element)[0]]),
    )
  }
}

/** The keys of all objects, without the sweeper's own, which are of no upload. */
export async function objects(place) {
  const keys = await list(place, { 'list-type': '2' }, { NextContinuationToken: 'continuation-token' })
  return keys.filter((key) => !/(^|\/)\.landfall\/(due\/|sweeper\.json$)/.test(key))
}

/** The keys of all unfinished multipart uploads. */
export async function multiparts(place) {
  return (await multipartUploads(place)).map(({ key }) => key)
}

/** All unfinished multipart uploads. */
export function multipartUploads(place) {
  const markers = { NextKeyMarker: 'key-marker', NextUploadIdMarker: 'upload-id-marker' }
  return list(place, { uploads: '' }, markers, (xml) => {
    const ids = texts(xml, 'UploadId')
    return texts(xml, 'Key').map((key, at) => ({ key, id: ids[at] }))
  })
}

/** An object: its bytes, and the headers that it comes with. */
export async function object(place, key) {
  const response = await send(place, 'GET', key)
  return { headers: response.headers, data: Buffer.from(await response.arrayBuffer()) }
}

/** Writes an object. */
export async function put(place, key, data) {
  await send(place, 'PUT', key, {}, data)
}

/** Begins a multipart upload. */
export async function beginMultipart(place, key) {
  await send(place, 'POST', key, { uploads: '' })
}
