// Uppy's Dashboard and @uppy/aws-s3 in Chromium, with LANDFALL_LONG=1 three majors of them: from a page's origin, asking
// landfall on another one, sending to the bucket on a third one.

import { test } from 'node:test'
import { startMoto } from '../nodes/lib/services.js'
import { startCeph } from './lib/ceph.js'
import { CLIENTS } from './lib/clients.js'
import { flows } from './lib/flows.js'
import { startDirect, startWorld } from './lib/setup.js'

const TIMEOUT = { timeout: 180_000 }

test('on Garage', async (t) => {
  const world = await startWorld(t)
  const landfall = await startDirect(t, world)
  for (const client of CLIENTS) {
    const { small, inParts, paused, reloaded, removed } = flows(world, landfall, client)
    await t.test(`${client.name}: a small file`, TIMEOUT, small)
    await t.test(`${client.name}: 60 MiB in parts, two of which fail`, TIMEOUT, inParts)
    await t.test(`${client.name}: pause and resume`, TIMEOUT, paused)
    await t.test(`${client.name}: reload and resume`, TIMEOUT, reloaded)
    await t.test(`${client.name}: removed in the middle`, TIMEOUT, removed)
  }
})

test('on moto', async (t) => {
  const world = await startWorld(t, startMoto)
  const posts = await startDirect(t, world)
  const puts = await startDirect(t, world, ['-direct-small-files', 'put'])
  for (const client of CLIENTS) {
    // moto's answer to a form has no ETag, without which Uppy 4 and 5 wait for ever; Uppy 6 knows only forms.
    const landfall = client.patient ? puts : posts
    const { small, inParts } = flows(world, landfall, client)
    await t.test(`${client.name}: a small file`, TIMEOUT, small)
    await t.test(`${client.name}: 60 MiB in parts, two of which fail`, TIMEOUT, inParts)
  }
})

test('on Ceph', async (t) => {
  const world = await startWorld(t, startCeph)
  const landfall = await startDirect(t, world)
  for (const client of CLIENTS.filter(({ page }) => page === 'uppy/6/')) {
    const { small, inParts, removed } = flows(world, landfall, client)
    await t.test(`${client.name}: a small file`, TIMEOUT, small)
    await t.test(`${client.name}: 60 MiB in parts, two of which fail`, TIMEOUT, inParts)
    await t.test(`${client.name}: removed in the middle`, TIMEOUT, removed)
  }
})
