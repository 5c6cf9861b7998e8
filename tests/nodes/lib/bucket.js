// What is in a bucket, seen without landfall.

import { createHash, createHmac } from 'node:crypto'

const hash = (text) => createHash('sha256').update(text).digest('hex')
const hmac = (key, text) => createHmac('sha256', key).update(text).digest()

/** A signed GET of the bucket (AWS Signature Version 4). */
async function get({ endpoint, region, bucket, accessKey, secretKey }, query) {
  const { host } = new URL(endpoint)
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  const day = time.slice(0, 8)
  const scope = `${day}/${region}/s3/aws4_request`
  const payload = hash('')
  const pairs = Object.entries(query)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .sort()
    .join('&')
  const signedHeaders = 'host;x-amz-content-sha256;x-amz-date'
  const canonical = [
    'GET',
    `/${bucket}`,
    pairs,
    `host:${host}`,
    `x-amz-content-sha256:${payload}`,
    `x-amz-date:${time}`,
    '',
    signedHeaders,
    payload,
  ].join('\n')
  const key = ['s3', 'aws4_request'].reduce(hmac, hmac(hmac(`AWS4${secretKey}`, day), region))
  const signature = createHmac('sha256', key)
    .update(['AWS4-HMAC-SHA256', time, scope, hash(canonical)].join('\n'))
    .digest('hex')
  const response = await fetch(`${endpoint}/${bucket}?${pairs}`, {
    headers: {
      'x-amz-date': time,
      'x-amz-content-sha256': payload,
      Authorization: `AWS4-HMAC-SHA256 Credential=${accessKey}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`,
    },
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`listing ${bucket}: ${response.status} ${text}`)
  if (text.includes('<IsTruncated>true')) throw new Error('more than one page')
  return text
}

const keys = (text) => [...text.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key)

/** The keys of all objects, a thousand at most. */
export async function objects(place) {
  return keys(await get(place, { 'list-type': '2' }))
}

/** The keys of all unfinished multipart uploads, a thousand at most. */
export async function multiparts(place) {
  return keys(await get(place, { uploads: '' }))
}
