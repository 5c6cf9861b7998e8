// The place of uploads, as other programs see it: a directory, or a bucket. Where leases and events are, if elsewhere.

import assert from 'node:assert/strict'
import { mkdir, readFile, readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { tempDir } from '../../clients/lib/source.js'
import { startCeph } from '../../direct/lib/ceph.js'
import { startPostgres } from '../../grants/lib/postgres.js'
import { beginMultipart, multiparts, multipartUploads, object, objects, put } from '../../nodes/lib/bucket.js'
import { Redis, startAzurite, startGarage, startGcsFake, startMoto } from '../../nodes/lib/services.js'
import * as azure from './azure.js'
import * as google from './google.js'

const MINUTE = 60
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR

const ID = '0123456789abcdef0123456789abcdef'

/** Where a service may lose an object that is overwritten, incomplete parts have copies. */
const SPARES = '.landfall/parts/'

/** What others have put there. Names prove nothing, however much they look like ours. */
const FOREIGN = {
  'notes.txt': 'to do',
  'mail/cur/1764.M1P2.example:2,S': 'Subject: hello',
  [ID]: 'a cache',
  [`${ID.replace('0', 'f')}.info`]: 'NAME=value',
  [`${ID.replace('0', 'e')}.part`]: 'a download',
  'copied.info': JSON.stringify({ ID, Size: 9, SizeIsDeferred: false, Offset: 0, MetaData: {} }),
  '.draft.info.0123abcd.tmp': 'a draft',
}

/** Blobs of others that have nothing but a block. */
const UNCOMMITTED = ['video.mp4', `${ID.replace('0', 'd')}`]

/** The length that a description states. */
const lengthIn = (json) => JSON.parse(json).Size

export class Directory {
  /** Whether the bytes of an unfinished upload can be read. */
  isReadableUnfinished = true
  /** Whether an interrupted removal leaves a description without bytes, which is 410. */
  leavesRemains = false
  args = []
  env = {}
  /** Clients send bodies and uploads up to these lengths. */
  mostBody = 600_000
  mostLength = 1_500_000

  constructor(dir) {
    this.dir = dir
  }

  async plant() {
    for (const [name, data] of Object.entries(FOREIGN)) {
      const path = join(this.dir, name)
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, data)
      await utimes(path, new Date(0), new Date(0))
    }
  }

  #path(name) {
    return join(this.dir, name)
  }

  /** The bytes of an upload; `null` if there are none. */
  async read(id) {
    return readFile(this.#path(id)).catch(absent)
  }

  /** How many bytes there are. */
  async size(id) {
    return (await stat(this.#path(id)).catch(absent))?.size ?? null
  }

  /** An application writes a finished file in place. */
  async change(id, data) {
    await writeFile(this.#path(id), data)
  }

  /**
   * What is stored: of each upload the name of its data, and the names of all that belongs to it. A creation
   * that was killed leaves empty files, and nothing proves whose they are.
   */
  async list() {
    const found = new Map()
    for (const name of await readdir(this.dir)) {
      if (name === '.landfall' || name.split('/')[0] === 'mail' || name in FOREIGN) continue
      const size = await this.size(name)
      if (size > 0) found.set(name, size)
    }
    return found
  }

  /** The names of an upload's files or objects: all, and those of a finished one. */
  names(id) {
    return { all: [id, `${id}.info`], finished: [id, `${id}.info`] }
  }

  /** The length that a description states. */
  async described(name) {
    return lengthIn(await readFile(this.#path(name), 'utf8'))
  }

  async assertForeign() {
    for (const [name, data] of Object.entries(FOREIGN)) assert.equal(String(await this.read(name)), data, name)
  }
}

function absent(error) {
  if (error.code !== 'ENOENT' && error.status !== 404) throw error
  return null
}

export class Bucket {
  isReadableUnfinished = false
  leavesRemains = true
  // Parts are at least as large as S3 demands, and most uploads have several.
  mostBody = 4_000_000
  mostLength = 12_000_000

  constructor(place) {
    this.place = place
    this.args = ['-s3-bucket', place.bucket, '-s3-endpoint', place.endpoint, '-s3-part-size', '5MiB']
    this.env = {
      AWS_REGION: place.region,
      AWS_ACCESS_KEY_ID: place.accessKey,
      AWS_SECRET_ACCESS_KEY: place.secretKey,
    }
  }

  async plant() {
    for (const [name, data] of Object.entries(FOREIGN)) await put(this.place, name, data)
    for (const name of ['video.mp4', ID]) await beginMultipart(this.place, name)
    this.foreignMultiparts = await multiparts(this.place)
    assert.deepEqual(this.foreignMultiparts.toSorted(), [ID, 'video.mp4'])
  }

  #key(id) {
    return id.split('+')[0]
  }

  async read(id) {
    return (await object(this.place, this.#key(id)).catch(absent))?.data ?? null
  }

  async size(id) {
    return (await this.read(id))?.length ?? null
  }

  async change(id, data) {
    await put(this.place, this.#key(id), data)
  }

  async list() {
    const found = new Map()
    for (const key of await objects(this.place)) {
      if (key in FOREIGN || (key.startsWith('.landfall/') && !key.startsWith(SPARES))) continue
      found.set(key, (await object(this.place, key)).data.length)
    }
    const described = new Set(found.keys())
    for (const { key, id } of await multipartUploads(this.place)) {
      if (!described.has(`${key}.info`)) continue
      // A creation that was killed, or whose first answer of S3 was lost, leaves one that no description names.
      const text = String((await object(this.place, `${key}.info`)).data)
      if (text.includes(id)) found.set(`multipart upload of ${key}`, 0)
    }
    return found
  }

  names(id) {
    const key = this.#key(id)
    return { all: [key, `${key}.info`, `${key}.part`, `${SPARES}${key}`, `multipart upload of ${key}`], finished: [key, `${key}.info`] }
  }

  async described(name) {
    return lengthIn(String((await object(this.place, name)).data))
  }

  async assertForeign() {
    for (const [name, data] of Object.entries(FOREIGN)) assert.equal(String(await this.read(name)), data, name)
    const left = await multiparts(this.place)
    for (const name of this.foreignMultiparts) assert.ok(left.includes(name), `the multipart upload of ${name}`)
  }
}

/** What both clouds have besides their calls: an upload's id is the name of its object. */
class Cloud {
  isReadableUnfinished = false
  leavesRemains = true
  /** Whether an upload whose removal was interrupted looks like one without bytes. */
  restartsRemoved = true
  // Most uploads have several parts, which are of 8 MiB.
  mostBody = 6_000_000
  mostLength = 20_000_000

  constructor(place) {
    this.place = place
    this.env = place.env
  }

  async plant() {
    for (const [name, data] of Object.entries(this.foreign)) await this.put(name, data)
  }

  async read(id) {
    return this.get(id).catch(absent)
  }

  async size(id) {
    return (await this.read(id))?.length ?? null
  }

  async change(id, data) {
    await this.put(id, data)
  }

  /** Unlike leases, bytes below the reserved prefix are of uploads. */
  async list() {
    const found = await this.all()
    const infos = [...found.keys()].filter((name) => name.endsWith('.info'))
    const described = new Set(infos.map((name) => name.slice(0, -'.info'.length)))
    for (const name of found.keys()) {
      const of = name.match(/^\.landfall\/(?:tails|compose)\/([^/]+)/)?.[1] ?? name.match(/^([^/]+)_\d+$/)?.[1]
      // What a killed process had under way may come after the removal of its upload: then nothing proves whose it is.
      // An empty one shows where a node took over; that of a final upload stays until a later sweep.
      const isLate = of && (!described.has(of) || found.get(name) === 0)
      if (name in this.foreign || isLate || (!of && name.startsWith('.landfall/'))) found.delete(name)
    }
    return found
  }

  names(id) {
    return { all: [id, `${id}.info`, `${id}_0`], finished: [id, `${id}.info`] }
  }

  async described(name) {
    return lengthIn(String(await this.get(name)))
  }

  async assertForeign() {
    for (const [name, data] of Object.entries(this.foreign)) assert.equal(String(await this.read(name)), data, name)
  }
}

class GoogleBucket extends Cloud {
  // The names of parts, too, prove nothing.
  foreign = { ...FOREIGN, [`${ID}_0`]: 'a page', [`${ID}_1`]: 'a page', [`${ID}_tmp_0_0`]: 'a draft' }

  constructor(place) {
    super(place)
    this.args = ['-gcs-bucket', place.bucket, '-gcs-endpoint', place.endpoint]
  }

  put = (name, data) => google.put(this.place, name, data)
  get = (name) => google.object(this.place, name)
  all = () => google.objects(this.place)
}

class AzureContainer extends Cloud {
  foreign = FOREIGN

  constructor(place) {
    super(place)
    this.args = ['-azure-storage', place.container, '-azure-endpoint', place.endpoint]
  }

  put = (name, data) => azure.put(this.place, name, data)
  get = (name) => azure.blob(this.place, name)

  async plant() {
    await azure.createContainer(this.place)
    await super.plant()
    for (const name of UNCOMMITTED) await azure.putBlock(this.place, name, 'a block')
  }

  async all() {
    const found = await azure.blobs(this.place)
    for (const [name, size] of found) {
      // A creation that was killed, or whose first answer was lost, leaves blocks that no description names: the
      // service drops them after a week.
      if (UNCOMMITTED.includes(name) || (size === 0 && !found.has(`${name}.info`))) found.delete(name)
    }
    return found
  }

  async assertForeign() {
    await super.assertForeign()
    for (const name of UNCOMMITTED) assert.equal(await azure.uncommitted(this.place, name), 1, name)
  }
}

const bucketOf = (start) => async (t) => new Bucket(await start(t))

/** The stores: `start` makes an empty one, `steps` of a wrong clock, in seconds, are such as the service accepts. */
export const FILES = { name: 'files', start: async (t) => new Directory(await tempDir(t)), steps: [30 * DAY, HOUR] }
export const GARAGE = { name: 'Garage', start: bucketOf(startGarage), steps: [20 * HOUR, 14 * MINUTE] }
export const MOTO = { name: 'moto', start: bucketOf(startMoto), steps: [30 * DAY, HOUR] }
export const CEPH = { name: 'Ceph', start: bucketOf(startCeph), steps: [14 * MINUTE] }
export const GOOGLE = {
  name: 'Google Cloud Storage',
  start: async (t) => new GoogleBucket(await startGcsFake(t)),
  steps: [30 * DAY, HOUR],
  // An object may be written once a second, so heartbeats are two seconds apart.
  leaseSeconds: 8,
}
export const AZURE = {
  name: 'Azure',
  start: async (t) => new AzureContainer(await startAzurite(t)),
  steps: [14 * MINUTE],
}

/** How long leases last, at most. */
export const LEASE_SECONDS = 3

const LEASES = {
  Redis: async (t) => ['-lease', (await Redis.start(t)).url, '-lease-ttl', '2s'],
  PostgreSQL: async (t) => ['-lease', await startPostgres(t), '-lease-ttl', '2s'],
  'the bucket': (t, { leaseSeconds = LEASE_SECONDS }) => ['-lease', 'store', '-lease-ttl', `${leaseSeconds}s`],
}
const EVENTS = { PostgreSQL: async (t) => ['-database', await startPostgres(t)] }

/** The settings of a row of the table; starts what its leases and events are kept in. */
export async function settingsOf(t, { store, durability, lease, events }) {
  return [
    ...(durability ? ['-durability', durability] : []),
    ...(lease ? await LEASES[lease](t, store) : []),
    ...(events ? await EVENTS[events](t) : []),
  ]
}
