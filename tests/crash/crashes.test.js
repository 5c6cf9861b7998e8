// kill -9 in a loop under every durability, with all kinds of uploads in the mix.

import assert from 'node:assert/strict'
import { appendFileSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { Landfall } from '../clients/lib/landfall.js'
import { randomNumbers } from '../clients/lib/source.js'
import { assertDistinct, assertDeliveries, byUpload, uploadOf } from '../hooks/lib/ledger.js'
import { Receiver, raw } from '../hooks/lib/receiver.js'
import { checkSwept, checkUploads } from './lib/check.js'
import { Client } from './lib/client.js'
import { events, sweep, until } from './lib/program.js'
import { ask } from './lib/request.js'

/** The long run kills 2,040 times, the short one 102 times. */
const ROUNDS = process.env.LANDFALL_LONG === '1' ? 20 : 1
const KILLS = 34
const CLIENTS = 6
/** Expired uploads are swept at the end. */
const LIFETIME_MS = 1_000
const HOOKS = 'pre-create,pre-finish,post-create,post-finish,post-terminate,post-expire'
/** Lifetime of abandoned uploads, set by the application. */
const ABANDONED_MS = 2_000

/** The events of each upload that its client's knowledge requires. */
function storyOf(upload) {
  if (upload.state === 'abandoned') return ['post-create', 'post-expire']
  const isComplete = upload.parts || upload.state === 'complete'
  const story = isComplete ? ['post-create', 'post-finish'] : ['post-create']
  return upload.state === 'gone' ? [...story, 'post-terminate'] : story
}

/** An application makes a finished file shorter or longer: the upload stays finished. */
function changeFinished(landfall, uploads, random) {
  const isFinished = ({ state, isPartial, changed }) => state === 'complete' && !isPartial && !changed
  const finished = uploads.filter(isFinished)
  const upload = finished[Math.floor(random() * finished.length)]
  if (!upload) return
  const path = landfall.pathOf(upload.url)
  if (random() < 0.5) truncateSync(path, Math.floor(statSync(path).size * random()))
  else appendFileSync(path, 'and tags')
  upload.changed = readFileSync(path)
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

const runs = Array.from({ length: ROUNDS }, () => ['none', 'complete', 'every']).flat()
for (const [n, durability] of runs.entries()) {
  test(`${KILLS} times kill -9 with durability ${durability} (${n + 1})`, { timeout: 900_000 }, async (t) => {
    const random = randomNumbers(t)
    const early = []
    const receiver = await Receiver.start(t, (delivery) => {
      const { ID, Size, Offset } = uploadOf(delivery)
      if (delivery.hook === 'post-finish') {
        const stored = statSync(landfall.pathOf(`/files/${ID}`), { throwIfNoEntry: false })
        // It may have been removed since.
        const isChanged = uploads.some(({ url, changed }) => changed && landfall.idOf(url) === ID)
        if (Offset !== Size || (stored && stored.size !== Size && !isChanged)) early.push(`${ID}: ${stored?.size} of ${Size}`)
      }
      return random() < 0.1 ? raw(500) : decide(delivery)
    })
    const uploads = []
    const told = () => receiver.deliveries.filter(({ hook }) => hook.startsWith('post-'))
    const landfall = await Landfall.start(t, {
      args: [
        '-durability', durability,
        '-hooks-http', receiver.url, '-hooks-enabled-events', HOOKS, '-sweep-interval', '200ms',
        '-hooks-http-retry', '20', '-hooks-http-backoff', '20ms', '-events-max-hold', '1m',
      ],
    })
    let over = false
    let failed = false
    let names = 0
    const clients = Array.from({ length: CLIENTS }, async () => {
      const client = new Client(() => landfall.endpoint, random, uploads, () => failed)
      while (!over) await client.play(`${durability} ${(names += 1)}`)
    })
    const playing = Promise.all(clients).finally(() => {
      over = true
    })

    const killing = (async () => {
      let checked = 0
      for (let kills = 0; kills < KILLS && !over; kills += 1) {
        await sleep(20 + 250 * random() * random())
        await landfall.kill()
        // Those of other clients may be about to be terminated.
        if (kills % 3 === 2) changeFinished(landfall, uploads, random)
        if (process.env.KILLS_FILE) appendFileSync(process.env.KILLS_FILE, '1\n')
        await landfall.restart()
        // Check all unfinished uploads, and those finished since the last check.
        const fresh = uploads.slice(checked)
        const growing = uploads.slice(0, checked).filter(({ state }) => state === 'growing')
        await checkUploads(landfall, [...growing, ...fresh])
        checked = Math.max(0, uploads.length - CLIENTS)
      }
    })().finally(() => {
      over = true
    })
    await Promise.all([playing, killing]).catch((error) => {
      failed = true
      throw error
    })

    await checkUploads(landfall, uploads)
    t.diagnostic(`${uploads.length} uploads, ${receiver.deliveries.length} deliveries`)
    assert.ok(uploads.length >= KILLS / 4, `only ${uploads.length} uploads`)
    assert.deepEqual(early, [], 'told as finished before all bytes were there')

    // Every event is delivered at least once, in order.
    const untold = () => {
      const stories = byUpload(told())
      return uploads.flatMap((upload) => {
        const id = landfall.idOf(upload.url)
        const hooks = (stories.get(id) ?? []).map(({ hook }) => hook)
        const missing = storyOf(upload).filter((hook) => !hooks.includes(hook))
        return missing.length ? [`${id} (${upload.state}): ${missing}, after ${hooks}`] : []
      })
    }
    await until(() => untold().length === 0, 60_000).catch(async () => {
      const { stdout } = await events(landfall.dir)
      assert.fail(`after a minute these were not told: ${untold().slice(0, 20).join('; ')}\n${stdout}`)
    })
    // A redelivery may still be running.
    await sleep(500)
    const stories = byUpload(told())
    for (const upload of uploads) {
      const id = landfall.idOf(upload.url)
      const hooks = stories.get(id).map(({ hook }) => hook)
      let story = storyOf(upload)
      // A client that terminates an upload may not know whether it was complete.
      if (hooks.includes('post-finish') && upload.state === 'gone' && upload.fate !== 'rejected') {
        story = ['post-create', 'post-finish', 'post-terminate']
      }
      assertDeliveries(id, stories.get(id), story, { replayed: true })
      if (story.includes('post-finish')) {
        assert.equal(upload.furthest, upload.length, `${id} was never sent in whole`)
      }
    }
    assertDistinct(told())
    const refused = told().filter((event) => uploadOf(event).MetaData.fate === 'refused')
    assert.deepEqual(refused, [], 'told of uploads that were refused')

    // Abandoned uploads have expired without a request.
    await checkUploads(landfall, uploads)
    const expired = uploads.filter(({ state }) => state === 'abandoned')
    for (const { url } of expired) assert.equal((await ask('HEAD', url)).status, 404, `${url} is still there`)
    const rejected = uploads.filter(({ fate }) => fate === 'rejected')
    t.diagnostic(`${expired.length} expired, ${rejected.length} rejected at their end`)

    // Uploads unknown to clients, and unfinished ones, are swept; no other files exist then.
    await landfall.stop()
    // Uploads expire at whole seconds.
    await sleep(LIFETIME_MS + 1200)
    for (let sweeps = 0; sweeps < 2; sweeps += 1) {
      const { code, stderr } = await sweep(landfall.dir, LIFETIME_MS)
      assert.equal(code, 0, stderr)
    }
    await checkSwept(landfall, uploads)
  })
}
