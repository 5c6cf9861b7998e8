// Kills at any moment, again and again: all kinds of uploads, sweeps, wrong clocks and changed files are in the mix.
// What it knows of a store comes from the row and from `stores.js`.

import assert from 'node:assert/strict'
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { randomNumbers, tempDir } from '../../../clients/lib/source.js'
import { assertDistinct, assertDeliveries, byUpload, uploadOf } from '../../../hooks/lib/ledger.js'
import { Receiver, raw } from '../../../hooks/lib/receiver.js'
import { checkSwept, checkUploads } from '../check.js'
import { Client } from '../client.js'
import { Clock } from '../clock.js'
import { events, sweep, until } from '../program.js'
import { ask } from '../request.js'
import { Servers } from '../servers.js'
import { LEASE_SECONDS, settingsOf } from '../stores.js'

const CLIENTS = 6
/** Expired uploads are swept at the end. */
const LIFETIME_MS = 1_000
const HOOKS = 'pre-create,pre-finish,post-create,post-finish,post-terminate,post-expire'
/** Lifetime of abandoned uploads, set by the application. */
const ABANDONED_MS = 2_000
/** Lifetime of the others: longer than a test, and shorter than the steps of the clock. */
const UNFINISHED_MS = 13 * 60_000
/** Within it, several sweeps look at everything by a wrong clock. */
const WRONG_MS = 500

/** The events of each upload that its client's knowledge requires. */
function storyOf(upload) {
  if (upload.state === 'abandoned') return ['post-create', 'post-expire']
  const isComplete = upload.parts || upload.state === 'complete'
  const story = isComplete ? ['post-create', 'post-finish'] : ['post-create']
  return upload.state === 'gone' ? [...story, 'post-terminate'] : story
}

/** An application makes a finished file shorter or longer: the upload stays finished. */
async function changeFinished(servers, store, uploads, random) {
  const isFinished = ({ state, isPartial, isTemporary, changed }) =>
    state === 'complete' && !isPartial && !isTemporary && !changed
  const finished = uploads.filter(isFinished)
  const upload = finished[Math.floor(random() * finished.length)]
  if (!upload) return
  const id = servers.idOf(upload.url)
  const data = await store.read(id)
  upload.changed = random() < 0.5
    ? data.subarray(0, 1 + Math.floor(data.length * random()))
    : Buffer.concat([data, Buffer.from('and tags')])
  await store.change(id, upload.changed)
}

/** The response of the application to a blocking hook. */
function decide({ hook, message }) {
  const { fate } = message.Event.Upload.MetaData
  if (hook === 'pre-create' && fate === 'refused') return { RejectUpload: true, HTTPResponse: { StatusCode: 403 } }
  if (hook === 'pre-create' && fate === 'abandoned') {
    return { ChangeFileInfo: { Expires: new Date(Date.now() + ABANDONED_MS).toISOString() } }
  }
  if (hook === 'pre-finish' && fate === 'rejected') return { RejectUpload: true, HTTPResponse: { StatusCode: 422 } }
  return undefined
}

export async function anytime(t, row) {
  const { kills: most, nodes = 1, steps = row.store.steps } = row
  const random = randomNumbers(t)
  const clock = await Clock.create(t)
  const store = await row.store.start(t)
  const dir = store.dir ?? (await tempDir(t))
  const settings = await settingsOf(t, row)
  await store.plant()
  const uploads = []
  const early = []
  const receiver = await Receiver.start(t, async (delivery) => {
    const { ID, Size, Offset } = uploadOf(delivery)
    if (delivery.hook === 'post-finish') {
      const size = await store.size(ID)
      // It may have been changed, or removed since.
      const isChanged = uploads.some(({ url, changed }) => changed && servers.idOf(url) === ID)
      if (Offset !== Size || (size !== null && size !== Size && !isChanged)) early.push(`${ID}: ${size} of ${Size}`)
    }
    if (random() < 0.1) return raw(500)
    const decision = decide(delivery)
    if (delivery.hook === 'pre-finish' && decision) {
      for (const upload of uploads.filter(({ url }) => servers.idOf(url) === ID)) upload.isDenied = true
    }
    return decision
  })
  const told = () => receiver.deliveries.filter(({ hook }) => hook.startsWith('post-'))
  const common = [
    ...store.args, ...settings, '-state-dir', join(dir, '.landfall'),
    '-hooks-http', receiver.url, '-hooks-enabled-events', HOOKS,
    '-hooks-http-retry', '20', '-hooks-http-backoff', '20ms',
    // By the clock: longer than its steps; or events do not wait, since nodes number them by their own clocks.
    '-events-max-hold', nodes === 1 ? '1000h' : '1s',
  ]
  const servers = await Servers.start(t, nodes, random, {
    shared: dir,
    env: { ...clock.env, ...store.env },
    args: [...common, '-sweep-interval', '200ms', '-expire-unfinished', `${UNFINISHED_MS}ms`],
  })
  const program = { args: ['-upload-dir', dir, ...common], env: { ...clock.env, ...store.env } }
  const isShared = nodes > 1 || !store.isReadableUnfinished
  /** What a client may meet that means nothing: a refusal by a wrong clock, or the lease of a dead node. */
  const isPassing = (status, since) => {
    if (clock.wasWrongSince(since) && (status === 410 || (isShared && [403, 503].includes(status)))) return true
    return isShared && [409, 423, 503].includes(status)
  }
  let over = false
  let failed = false
  let names = 0
  const clients = Array.from({ length: CLIENTS }, async () => {
    const client = new Client({
      endpoint: () => servers.endpoint, random, uploads, hasFailed: () => failed, isPassing, store,
    })
    while (!over) await client.play(`${row.title} ${(names += 1)}`)
  })
  const playing = Promise.all(clients).finally(() => {
    over = true
  })

  const killing = (async () => {
    let checked = 0
    for (let kills = 0; kills < most && !over; kills += 1) {
      await sleep(20 + (isShared ? 1_500 : 250) * random() * random())
      // The clock is set while the server runs, or while it does not.
      const step = (random() < 0.3 && steps[Math.floor(random() * steps.length)]) || 0
      if (step !== 0 && random() < 0.5) {
        await clock.set(step)
        await sleep(WRONG_MS)
      }
      await servers.kill()
      // Those of other clients may be about to be terminated.
      if (kills % 3 === 2) await changeFinished(servers, store, uploads, random)
      if (process.env.KILLS_FILE) appendFileSync(process.env.KILLS_FILE, '1\n')
      await clock.set(step)
      // In addition to those of the nodes: one of them finds that another one has removed something.
      const sweeping = step !== 0 && random() < 0.3 ? sweep(program, UNFINISHED_MS) : undefined
      await servers.restart()
      const swept = await sweeping
      assert.equal(swept?.code ?? 0, 0, swept?.stderr)
      if (step !== 0) {
        await sleep(WRONG_MS)
        await clock.set(0)
      }
      // Check all unfinished uploads, and those finished since the last check.
      const fresh = uploads.slice(checked)
      const growing = uploads.slice(0, checked).filter(({ state }) => state === 'growing')
      await checkUploads(servers, store, [...growing, ...fresh])
      checked = Math.max(0, uploads.length - CLIENTS)
    }
  })().finally(() => {
    over = true
  })
  await Promise.all([playing, killing]).catch(async (error) => {
    failed = true
    // No server is started after those that run have been stopped.
    await Promise.allSettled([playing, killing])
    const id = error.message.match(/files\/([0-9a-f]{32})/)?.[1]
    if (id && store.all) {
      const all = [...await store.all()].filter(([name]) => name.includes(id))
      error.message += `\n${JSON.stringify(all)}\n${await store.get(`${id}.info`).catch(String)}`
    }
    error.message += `\n${servers.log}`
    throw error
  })

  await checkUploads(servers, store, uploads)
  t.diagnostic(`${uploads.length} uploads, ${receiver.deliveries.length} deliveries`)
  assert.ok(uploads.length >= most / 4, `only ${uploads.length} uploads`)
  assert.deepEqual(early, [], 'told as finished before all bytes were there')

  // Every event is delivered at least once, in order.
  const untold = () => {
    const stories = byUpload(told())
    return uploads.flatMap((upload) => {
      const id = servers.idOf(upload.url)
      const hooks = (stories.get(id) ?? []).map(({ hook }) => hook)
      const missing = storyOf(upload).filter((hook) => !hooks.includes(hook))
      return missing.length ? [`${id} (${upload.state}): ${missing}, after ${hooks}`] : []
    })
  }
  // On PostgreSQL, a node is dead after 13 s, and its prepared events are resolved a minute later.
  const before = performance.now()
  let last = ''
  const isTold = () => {
    const [first] = untold()
    last = first ?? last
    return !first
  }
  await until(isTold, 180_000).catch(async () => {
    const { code, stdout, stderr } = await events(program)
    const missing = untold().slice(0, 20).join('; ')
    assert.fail(`after three minutes these were not told: ${missing}\n${code} ${stderr}${stdout.slice(0, 20_000)}\n${servers.log}`)
  })
  t.diagnostic(`events arrived within ${Math.ceil((performance.now() - before) / 1000)} s, at last ${last}`)
  // A redelivery may still be running.
  await sleep(500)
  const stories = byUpload(told())
  for (const upload of uploads) {
    const id = servers.idOf(upload.url)
    const hooks = stories.get(id).map(({ hook }) => hook)
    let story = storyOf(upload)
    // A client that terminates an upload may not know whether it was complete.
    if (hooks.includes('post-finish') && upload.state === 'gone' && upload.fate !== 'rejected') {
      story = ['post-create', 'post-finish', 'post-terminate']
    }
    // In a bucket, a removal that was interrupted is repeated, and told again.
    if (!isShared) assertDeliveries(id, stories.get(id), story, { replayed: true })
    else assert.deepEqual([...new Set(hooks)].sort(), [...story].sort(), id)
    if (story.includes('post-finish')) {
      assert.equal(upload.furthest, upload.length, `${id} was never sent in whole`)
    }
  }
  assertDistinct(told())
  const refused = told().filter((event) => uploadOf(event).MetaData.fate === 'refused')
  assert.deepEqual(refused, [], 'told of uploads that were refused')

  // Abandoned uploads have expired without a request.
  await checkUploads(servers, store, uploads)
  const expired = uploads.filter(({ state }) => state === 'abandoned')
  for (const { url } of expired) {
    // Also after a removal whose process died once the bytes were deleted: its event is emitted when nothing is left.
    // A server forgets with its next sweep what `landfall sweep` has removed.
    const isGone = async () => (await ask('HEAD', url)).status === 404
    await until(isGone, 10_000).catch(() => assert.fail(`${url} is still there`))
  }
  const rejected = uploads.filter(({ fate }) => fate === 'rejected')
  t.diagnostic(`${expired.length} expired, ${rejected.length} rejected at their end`)

  // Uploads unknown to clients, and unfinished ones, are swept; no other files exist then.
  await servers.stop()
  // Uploads expire at whole seconds; a node that was killed is silent for longer than its leases last.
  const silence = nodes > 1 ? 1000 * (row.store.leaseSeconds ?? LEASE_SECONDS) : 0
  await sleep(Math.max(LIFETIME_MS, silence) + 1200)
  for (let sweeps = 0; sweeps < 2; sweeps += 1) {
    const { code, stderr } = await sweep(program, LIFETIME_MS)
    assert.equal(code, 0, stderr)
  }
  await checkSwept(servers, store, uploads)
}
