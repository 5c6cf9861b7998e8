// tus-js-client behind a proxy that gives up while the completion of the upload still runs: one file stays one upload with
// one event, and the client learns of the success. LANDFALL_LONG=1 for a proxy of 5 s, the delays that the client has by
// default, and completions of up to 90 s.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { AZURE, FILES, GOOGLE, MOTO } from '../crash/lib/stores.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { HttpProxy } from './lib/http-proxy.js'
import { Landfall } from './lib/landfall.js'
import { bytes, MIB, tempDir } from './lib/source.js'
import { count, prepare, until } from './lib/tus.js'

const isLong = process.env.LANDFALL_LONG === '1'
/** All times are a tenth in the usual run. */
const scale = isLong ? 1 : 0.1
const LIMIT = 5000 * scale
const DELAYS = isLong ? [1_000, 20_000, 90_000] : [100, 2_000]

/** The delays between attempts that a client has by default. */
const CLIENTS = { 'tus-js-client': [0, 1000, 3000, 5000], Uppy: [100, 1000, 3000, 5000] }

/** The requests of a store that complete an upload. */
const COMPLETING = {
  moto: ({ method, url }) => method === 'POST' && url.includes('uploadId='),
  Azure: ({ method, url }) => method === 'PUT' && url.includes('comp=blocklist'),
  [GOOGLE.name]: ({ method, url }) => method === 'POST' && url.includes('/compose'),
}

/** Google Cloud Storage composes only what has several parts. */
const lengthIn = (store) => (store === GOOGLE ? 20 : 1) * MIB

/** A directory on a disk whose syncs take long. An upload has three: of its bytes, its description, and the completion in it. */
async function slowFiles(t, delay) {
  const log = join(await tempDir(t), 'syncs')
  const inject = `--inject=fdatasync:delay_enter=${Math.round(delay / 3) * 1000}`
  const tracer = ['strace', '-D', '-f', '--seccomp-bpf', '-qq', '-e', 'trace=fdatasync', inject, '-o', log]
  const calls = async () => (await readFile(log, 'utf8')).split('\n').filter((line) => line.includes('DELAYED')).length
  return { options: { tracer }, calls }
}

/** A service whose completing requests take long. */
async function slowBucket(t, store, delay) {
  const bucket = await store.start(t)
  const isCompleting = COMPLETING[store.name]
  const at = bucket.args.findIndex((arg) => arg.startsWith('http://'))
  const url = new URL(bucket.args[at])
  const proxy = await HttpProxy.start(t, { port: Number(url.port) }, { delay: (request) => (isCompleting(request) ? delay : 0) })
  url.port = String(proxy.port)
  const args = bucket.args.toSpliced(at, 1, url.href.replace(/\/$/, ''))
  return { options: { args, env: bucket.env }, calls: async () => proxy.delayed }
}

function cases() {
  const all = []
  for (const store of [FILES, MOTO, GOOGLE, AZURE]) {
    for (const delay of DELAYS) all.push({ store, delay, hook: 0, client: 'tus-js-client' })
  }
  for (const delay of DELAYS) all.push({ store: FILES, delay: 0, hook: delay, client: 'tus-js-client' })
  all.push({ store: FILES, delay: DELAYS.at(-1), hook: DELAYS.at(-1), client: 'Uppy' })
  return all
}

for (const { store, delay, hook, client } of cases()) {
  const name = `${client}, ${store.name}: a completion of ${delay} ms and a hook of ${hook} ms end with one upload`
  test(name, { timeout: 300_000 }, async (t) => {
    const slow = store === FILES ? await slowFiles(t, delay) : await slowBucket(t, store, delay)
    const receiver = await Receiver.start(t, async (delivery) => {
      if (delivery.hook === 'pre-finish') await sleep(hook)
    })
    const events = hook > 0 ? 'pre-finish,post-finish' : 'post-finish'
    const args = ['-hooks-http', receiver.url, '-hooks-enabled-events', events, ...(slow.options.args ?? [])]
    const landfall = await Landfall.start(t, { ...slow.options, args })
    const proxy = await HttpProxy.start(t, landfall, { limit: LIMIT })
    const length = lengthIn(store)
    const { upload, requests, finished } = prepare(bytes(length), {
      endpoint: proxy.endpoint,
      retryDelays: CLIENTS[client].map((ms) => ms * scale),
    })
    upload.start()
    await finished
    await until(() => receiver.of('post-finish').length > 0)

    // A second event would come soon.
    await sleep(200)
    assert.equal(count(requests, 'POST'), 1, 'uploads')
    assert.equal(receiver.of('post-finish').length, 1, 'post-finish')
    assert.equal(receiver.of('pre-finish').length, hook > 0 ? 1 : 0, 'pre-finish')
    const heads = requests.filter(({ method }) => method === 'HEAD')
    if (delay + hook > 2 * LIMIT) assert.ok(heads.length > 1, 'the client was cut')
    assert.deepEqual(heads.filter(({ status }) => status !== 200), [], 'HEAD')
    if (store !== FILES) assert.equal(await slow.calls(), 1, 'completing requests')
    else if (delay > 0) assert.equal(await slow.calls(), 3, 'syncs')
    const { offset } = await landfall.head(upload.url)
    assert.equal(offset, length)
  })
}
