// Three nodes on one PostgreSQL and one directory, killed again and again under a crowd of clients.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MIB, randomNumbers, tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { Balancer } from '../nodes/lib/balancer.js'
import { crowd } from './lib/crowd.js'
import { Listener } from './lib/listener.js'
import { startPostgres } from './lib/postgres.js'
import { addKey, Caller, withGrants } from './lib/queue.js'

const CLIENTS = 66
const QUOTA = 500 * MIB
const KILLS = 6

async function fleet(t, args = []) {
  const database = ['--database', await startPostgres(t)]
  const shared = await tempDir(t)
  const receiver = await Receiver.start(t)
  const nodes = []
  for (let n = 0; n < 3; n += 1) {
    nodes.push(await withGrants(t, [
      ...database, '--node-name', `node-${n}`,
      '-hooks-http', receiver.url, '-hooks-enabled-events', 'UploadStarted,UploadCompleted,UploadCancelled,UploadFailed',
      ...args,
    ], { shared }))
  }
  const balancer = await Balancer.start(t, nodes.map(({ port }) => port))
  return { nodes, database, balancer, receiver }
}

test('nodes are killed under a crowd: each job ends as its client saw', { timeout: 150_000 }, async (t) => {
  const random = randomNumbers(t)
  const { nodes, database, balancer, receiver } = await fleet(t)
  const key = await addKey(nodes[0], 'app', ['--quota', String(QUOTA)], database)
  const boss = Caller.withKey(balancer.endpoint, await addKey(nodes[0], 'boss', ['--admin'], database))
  const caller = Caller.withKey(balancer.endpoint, key)
  // From the first event on; it loses its node now and then.
  const listener = await Listener.open(t, boss, { lastId: '0' })
  balancer.bytesPerSecond = 12 * MIB

  let over = false
  let kills = 0
  const killing = (async () => {
    while (!over && kills < 2 * KILLS) {
      await sleep(700 + 1_200 * random())
      // In turn: whoever is connected to one of them loses it.
      const node = nodes[kills % nodes.length]
      await node.kill()
      kills += 1
      await sleep(600 * random())
      await node.restart()
    }
  })()
  // However long a node takes to start again: there are clients before and after each kill.
  const begin = async (n) => {
    await until(() => kills >= Math.floor((n * KILLS) / CLIENTS), 100_000)
    await sleep(2_000 * random())
  }
  // A node that doesn't start again fails the test at once.
  const [clients] = await Promise.all([
    crowd(caller, CLIENTS, random, begin).finally(() => {
      over = true
    }),
    killing,
  ])
  t.diagnostic(`${kills} kills, ${balancer.broken} broken connections, ${listener.connections} times connected`)
  assert.ok(listener.connections > 1, 'the listener never lost its node')

  // The queue comes to rest as each client saw it, on every node alike.
  const states = async (node) => {
    const jobs = await Caller.withKey(node.endpoint, key).all()
    return new Map(jobs.map((job) => [job.request_id, job]))
  }
  const wanted = new Map(clients.map(({ id, state }) => [id, state]))
  const differing = (jobs) => clients.filter(({ id, state }) => jobs.get(id)?.state !== state)
  await until(async () => differing(await states(nodes[0])).length === 0, 30_000).catch(async (error) => {
    const jobs = await states(nodes[0])
    error.message += differing(jobs).map(({ id, state, requests }) =>
      `\n${id} saw ${state}: ${JSON.stringify(jobs.get(id))} ${JSON.stringify(requests?.slice(-5))}`).join('')
    throw error
  })
  for (const node of nodes) {
    const jobs = await states(node)
    assert.equal(jobs.size, CLIENTS)
    for (const { id, state, size } of clients) {
      assert.equal(jobs.get(id).state, state, id)
      if (state === 'completed') assert.equal(jobs.get(id).offset, size, id)
    }
  }

  // Exactly one upload for each grant, whole; none is left of those that were cancelled.
  const completed = clients.filter(({ state }) => state === 'completed')
  await until(async () => (await nodes[0].allInfos()).length === completed.length, 20_000)
  assert.equal(new Set(completed.map(({ url }) => nodes[0].idOf(url))).size, completed.length)
  for (const { url, digest, id } of completed) assert.equal(await nodes[0].sha256(url), digest, id)

  // The application received each end exactly, and nothing else.
  const ends = () => {
    const told = new Map()
    for (const { message } of receiver.deliveries) {
      if (message.Type !== 'UploadStarted') told.set(message.Event.Job.RequestID, message.Type)
    }
    return told
  }
  await until(() => ends().size === CLIENTS, 30_000)
  for (const [id, type] of ends()) {
    assert.equal(type, wanted.get(id) === 'completed' ? 'UploadCompleted' : 'UploadCancelled', id)
  }
  const facts = new Map()
  for (const { id, message } of receiver.deliveries) {
    const fact = `${message.Type} of ${message.Event.Job.RequestID}`
    assert.equal(facts.get(id) ?? fact, fact, 'one id for two things')
    facts.set(id, fact)
  }
  const started = new Set([...facts.values()].filter((fact) => fact.startsWith('UploadStarted')))
  assert.equal(facts.size - started.size, CLIENTS, 'an end has one id')

  // The live log: one story for each job, in order, and no event missing or twice although it was cut off.
  for (const { id, state } of clients) {
    const end = state === 'completed' ? 'UploadCompleted' : 'UploadCancelled'
    await listener.heard(id, end)
    assert.deepEqual(listener.story(id), ['UploadStarted', end], id)
    // Progress isn't stored: another node may know less of it, after a kill and when it cancels.
    for (const connection of new Set(listener.of(id).map((heard) => heard.connection))) {
      const heard = listener.of(id).filter((one) => one.connection === connection && one.event !== 'UploadCancelled')
      const offsets = heard.map(({ data }) => data.upload.offset)
      assert.deepEqual(offsets, offsets.toSorted((a, b) => a - b), `${id}: ${heard.map(({ event }) => event)}`)
    }
  }
  const numbers = listener.events.map(({ id }) => Number(id))
  assert.deepEqual(numbers, [...new Set(numbers)].toSorted((a, b) => a - b))
  const again = await Listener.open(t, Caller.withKey(nodes[1].endpoint, boss.headers.Authorization.slice(7)), { lastId: '0' })
  // Progress isn't kept.
  const kept = ({ events }) => events.filter(({ event }) => event !== 'UploadProgress').map(({ id }) => id)
  await until(() => kept(again).length >= kept(listener).length)
  assert.deepEqual(kept(again), kept(listener))

  // Completed bytes are used, and no quota is reserved any more.
  const used = completed.reduce((sum, { size }) => sum + size, 0)
  const ask = (id, filesize) => caller.ask('POST', '', { id, filename: 'rest.bin', filesize })
  assert.equal((await ask('too-much', QUOTA - used + 1)).status, 429)
  assert.equal((await ask('the-rest', QUOTA - used)).status, 201)
})

test('one token at three nodes at once makes one upload', { timeout: 90_000 }, async (t) => {
  const { nodes, database } = await fleet(t)
  const caller = Caller.withKey(nodes[0].endpoint, await addKey(nodes[0], 'app', [], database))
  for (let round = 0; round < 4; round += 1) {
    const granted = await caller.grant({ id: `race-${round}`, filesize: 5 })
    const answers = await Promise.all(Array.from({ length: 12 }, (_, n) => fetch(nodes[n % 3].endpoint, {
      method: 'POST',
      headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': '5', 'Upload-Token': granted.upload_token },
    })))
    assert.deepEqual(answers.map(({ status }) => status), Array(12).fill(201))
    const ids = new Set(answers.map((answer) => nodes[0].idOf(answer.headers.get('Location'))))
    assert.equal(ids.size, 1)
    assert.equal((await nodes[0].allInfos()).length, round + 1)
  }
})

test('an event of one node is received at another', { timeout: 90_000 }, async (t) => {
  const { nodes, database } = await fleet(t)
  const key = await addKey(nodes[0], 'app', [], database)
  const [one, other] = nodes.map(({ endpoint }) => Caller.withKey(endpoint, key))
  const listener = await Listener.open(t, other)
  await one.grant({ id: 'heard', filesize: 5, mode: 'url' })
  await one.cancel('heard')
  await listener.heard('heard', 'UploadCancelled')
  assert.deepEqual(listener.story('heard'), ['UploadStarted', 'UploadCancelled'])
})
