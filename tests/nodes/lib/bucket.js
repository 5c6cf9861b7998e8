// Reads a bucket without landfall.

import { createHash, createHmac } from 'node:crypto'

const hash = (text) => createHash('sha256').update(text).digest('hex')
const hmac = (key, text) => createHmac('sha256', key).update(text).digest()

const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)

/** A signed GET of the bucket, or of an object in it (AWS Signature Version 4). */
async function get({ endpoint, region, bucket, accessKey, secretKey }, query, key) {
  const { host } = new URL(endpoint)
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  const day = time.slice(0, 8)
  const scope = `${day}/${region}/s3/aws4_request`
  const payload = hash('')
  const pairs = Object.entries(query)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&')
  const path = key === undefined ? `/${bucket}` : `/${bucket}/${key.split('/').map(encode).join('/')}`
  const signedHeaders = 'host;x-amz-content-sha256;x-amz-date'
  const canonical = [
    'GET',
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
    headers: {
      'x-amz-date': time,
      'x-amz-content-sha256': payload,
      Authorization: `AWS4-HMAC-SHA256 Credential=${accessKey}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`,
    },
  })
  if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`)
  return response
}

async function list(place, query) {
  const text = await (await get(place, query)).text()
  if (text.includes('<IsTruncated>true')) throw new Error('more than one page')
  return text
}

const keys = (text) => [...text.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key)

/** The keys of all objects, a thousand at most. */
export async function objects(place) {
  return keys(await list(place, { 'list-type': '2' }))
}

/** The keys of all unfinished multipart uploads, a thousand at most. */
export async function multiparts(place) {
  return keys(await list(place, { uploads: '' }))
}

/** An object: its bytes, and the headers that it comes with. */
export async function object(place, key) {
  const response = await get(place, {}, key)
  return { headers: response.headers, data: Buffer.from(await response.arrayBuffer()) }
}
