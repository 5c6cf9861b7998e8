// The alerts and the Grafana dashboard use metrics that the server has.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { Landfall } from '../clients/lib/landfall.js'
import { startDirect } from '../direct/lib/setup.js'
import { create } from '../hooks/lib/start.js'
import { run } from '../hooks/lib/programs.js'
import { Redis, startAzurite, startGarage } from '../nodes/lib/services.js'

const PACKAGING = new URL('../../packaging/', import.meta.url)
const read = (path) => readFile(new URL(path, PACKAGING), 'utf8')

const alerts = await read('prometheus/alerts.yml')
const dashboard = JSON.parse(await read('grafana/landfall.json'))
const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
const names = (text) => new Set(text.match(/\b(?:landfall|tusd|process)_[a-z0-9_]+/g))

/** Runs promtool in the folder of the alerts. */
async function promtool(...args) {
  const done = await run('promtool', args, { cwd: fileURLToPath(new URL('prometheus/', PACKAGING)) })
  assert.equal(done.code, 0, `${done.stdout}\n${done.stderr}`)
}

test('alerts fire as their tests say', async () => {
  await promtool('check', 'rules', 'alerts.yml')
  await promtool('test', 'rules', 'alerts.test.yml')
})

test('each alert has a test and a section in the documentation, and each section an alert', async () => {
  const listed = [...alerts.matchAll(/- alert: (\w+)/g)].map(([, name]) => name)
  const of = (pattern, text) => [...text.matchAll(pattern)].map(([, name]) => name).toSorted()
  assert.ok(listed.length >= 15)
  assert.deepEqual(of(/^### (Landfall\w+)$/gm, await readFile(new URL('../docs/troubleshooting.md', PACKAGING), 'utf8')), listed.toSorted())
  assert.deepEqual(of(/^ {2}- name: (Landfall\w+)$/gm, await read('prometheus/alerts.test.yml')), listed.toSorted())
  for (const [, anchor] of alerts.matchAll(/troubleshooting\.md#(\w+)/g)) {
    assert.ok(listed.some((name) => name.toLowerCase() === anchor), anchor)
  }
})

test('panels have ids of their own and do not overlap', () => {
  const taken = new Set()
  for (const { gridPos: { x, y, w, h }, title } of dashboard.panels) {
    for (let column = x; column < x + w; column += 1) {
      for (let line = y; line < y + h; line += 1) {
        assert.ok(column < 24 && !taken.has(`${column},${line}`), title)
        taken.add(`${column},${line}`)
      }
    }
  }
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
})

test('servers on S3 and in another cloud have all their metrics', { timeout: 60_000 }, async (t) => {
  const place = await startGarage(t)
  const world = { place, front: place, origin: 'https://app.example' }
  const redis = await Redis.start(t)
  const args = ['-lease', redis.url, '-hooks-http', 'http://127.0.0.1:9/', '-hooks-http-retry', '0']
  const landfall = await startDirect(t, world, args)
  const { status } = await create(landfall.endpoint, Buffer.from('hello'))
  assert.equal(status, 500, 'the hook cannot be reached')
  const azurite = await startAzurite(t)
  const cloud = await Landfall.start(t, {
    args: ['-azure-storage', azurite.container, '-azure-endpoint', azurite.endpoint], env: azurite.env,
  })
  const pages = [landfall, cloud].map(async (server) => {
    const response = fetch(new URL('/metrics', server.endpoint))
    return (await response.catch(({ cause }) => assert.fail(`${server.endpoint}: ${cause}\n${server.log}`))).text()
  })
  const metrics = (await Promise.all(pages)).join('\n')
  const existing = new Set([...metrics.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name))
  const used = names([alerts, ...expressions].join('\n'))
  assert.ok(used.size > 40, [...used].join())
  const missing = [...used].filter((name) => !existing.has(name) && !existing.has(name.replace(/_bucket$/, '')))
  assert.deepEqual(missing, [])
})
