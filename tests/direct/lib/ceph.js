// Ceph's object gateway: it verifies signatures, and honors conditional writes.

import { createHmac } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { find, freePorts, Service } from '../../nodes/lib/services.js'

const SCRIPT = fileURLToPath(new URL('../../services/src/ceph.sh', import.meta.url))

/** The role that the key may assume, for temporary credentials. */
export const ROLE = 'arn:aws:iam:::role/uploads'

/** Starts Ceph with one bucket until test `t` ends; returns its address and key. */
export async function startCeph(t) {
  find('radosgw', '/usr/bin')
  const [port, monitor] = await freePorts(2)
  const place = {
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    bucket: 'uploads',
    accessKey: 'AKIDCEPH',
    secretKey: 'ceph/secret+of/tests',
  }
  const args = (dir) => [SCRIPT, dir, monitor, port, place.accessKey, place.secretKey].map(String)
  const service = await Service.start(port, (dir) => ({ program: '/bin/sh', args: args(dir) }), { signal: 'TERM' })
  t.after(() => service.stop())
  // AWS's signature before version 4 is short.
  const expires = Math.floor(Date.now() / 1000) + 3600
  const text = `PUT\n\n\n${expires}\n/${place.bucket}`
  const signature = createHmac('sha1', place.secretKey).update(text).digest('base64')
  const query = new URLSearchParams({ AWSAccessKeyId: place.accessKey, Expires: String(expires), Signature: signature })
  const made = await fetch(`${place.endpoint}/${place.bucket}?${query}`, { method: 'PUT' })
  if (!made.ok) throw new Error(`Ceph made no bucket: ${made.status} ${await made.text()}`)
  return place
}
