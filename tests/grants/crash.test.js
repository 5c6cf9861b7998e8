// kill -9 around the last byte: complete uploads become completed and emit an event.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, randomNumbers, sha256 } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { TUS, append, create } from '../hooks/lib/start.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { addKey, Caller, withGrants } from './lib/queue.js'

const SIZE = 300_000
const ROUNDS = 12

test('kill -9 right after the last byte loses no completion', { timeout: 120_000 }, async (t) => {
  const random = randomNumbers(t)
  const receiver = await Receiver.start(t)
  const landfall = await withGrants(t, ['-hooks-http', receiver.url, '-hooks-enabled-events', 'UploadCompleted'])
  const caller = Caller.withKey(landfall.endpoint, await addKey(landfall, 'app'))
  const told = (id) => receiver.deliveries.filter(({ message }) => message.Event.Job.RequestID === id)
  let unanswered = 0
  let unfinished = 0
  for (let n = 0; n < ROUNDS; n += 1) {
    const id = `crash-${n}`
    const data = bytes(SIZE, n)
    const granted = await caller.grant({ id, filesize: SIZE })
    const { url } = await create(landfall.endpoint, data.subarray(0, 1000), {
      length: SIZE,
      headers: { 'Upload-Token': granted.upload_token },
    })
    // Every third time the answer comes first; else the kill comes somewhere around it.
    const last = append(url, 1000, data.subarray(1000)).catch(() => null)
    if (n % 3 === 0) await last
    else await sleep(6 * random())
    await landfall.kill()
    const answered = (await last)?.status === 204
    if (!answered) unanswered += 1
    await landfall.restart()

    // 423 while the completion that was interrupted runs again.
    let found
    await until(async () => (found = await landfall.head(url)).status !== 423, 10_000)
    const { offset } = found
    assert.ok(!answered || offset === SIZE, `${offset} after an answer`)
    if (offset < SIZE) {
      unfinished += 1
      const job = await caller.job(id)
      // The last bytes count with the completion, which may have run since.
      const isWithheld = offset >= SIZE - 256
      assert.ok(['started', 'progress'].includes(job.state) || (isWithheld && job.state === 'completed'), job.state)
      assert.equal((await append(url, offset, data.subarray(offset))).status, 204)
    }
    // By the reconciliation at startup, not by a later one.
    await until(async () => (await caller.job(id)).state === 'completed', 10_000)
    const job = await caller.job(id)
    assert.deepEqual([job.offset, job.size], [SIZE, SIZE])
    assert.equal(await landfall.sha256(url), sha256(data))
    await until(() => told(id).length > 0, 20_000)
  }
  t.diagnostic(`${unanswered} of ${ROUNDS} last requests were never answered, ${unfinished} went on later`)
  for (let n = 0; n < ROUNDS; n += 1) {
    const deliveries = told(`crash-${n}`)
    assert.equal(new Set(deliveries.map((one) => one.id)).size, 1, 'a fact has one id')
    const { Job } = deliveries[0].message.Event
    assert.deepEqual([Job.State, Job.Offset, Job.Size, Job.Subject], ['completed', SIZE, SIZE, 'app'])
  }
})

test('kill -9 in the middle of a creation: the token still makes one upload', { timeout: 60_000 }, async (t) => {
  const random = randomNumbers(t)
  const landfall = await withGrants(t)
  const caller = Caller.withKey(landfall.endpoint, await addKey(landfall, 'app'))
  for (let n = 0; n < 6; n += 1) {
    const granted = await caller.grant({ id: `made-${n}`, filesize: 5 })
    const begin = () => fetch(landfall.endpoint, {
      method: 'POST',
      headers: { ...TUS, 'Upload-Length': '5', 'Upload-Token': granted.upload_token },
    }).catch(() => null)
    const first = begin()
    await sleep(3 * random())
    await landfall.kill()
    await first
    await landfall.restart()
    const again = await begin()
    assert.equal(again?.status, 201)
    assert.equal((await landfall.allInfos()).length, n + 1)
    assert.equal((await append(again.headers.get('Location'), 0, Buffer.from('hello'))).status, 204)
    assert.equal((await caller.job(`made-${n}`)).state, 'completed')
  }
})

test('events are delivered after the server was down', { timeout: 60_000 }, async (t) => {
  const receiver = await Receiver.start(t)
  const landfall = await withGrants(t, [
    '--grants-valid-for', '1s', '-hooks-http', receiver.url,
    '-hooks-enabled-events', 'UploadStarted,UploadCancelled,UploadExpired',
  ])
  const caller = Caller.withKey(landfall.endpoint, await addKey(landfall, 'app'))
  await receiver.close()
  const granted = await caller.grant({ id: 'cancelled', filesize: 5 })
  await create(landfall.endpoint, Buffer.from('he'), { length: 5, headers: { 'Upload-Token': granted.upload_token } })
  await caller.cancel('cancelled')
  await caller.grant({ id: 'expired', filesize: 5 })
  await landfall.kill()
  await sleep(1_100)
  await landfall.restart()
  await receiver.listen()
  const names = (id) => receiver.deliveries
    .filter(({ message }) => message.Event.Job.RequestID === id)
    .map(({ message }) => message.Type)
  await until(() => names('cancelled').length >= 2 && names('expired').length >= 1, 45_000)
  assert.deepEqual([...new Set(names('cancelled'))], ['UploadStarted', 'UploadCancelled'])
  assert.deepEqual([...new Set(names('expired'))], ['UploadExpired'])
})
