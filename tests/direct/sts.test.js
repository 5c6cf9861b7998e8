// Clients that sign for themselves, with temporary credentials that landfall got for them. moto hands these out
// and doesn't look at what they may do; Ceph does, as Amazon.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MIB, sha256, sourceFile } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { add, startUpload } from '../clients/lib/uppy.js'
import { object } from '../nodes/lib/bucket.js'
import { startMoto } from '../nodes/lib/services.js'
import { ROLE, startCeph } from './lib/ceph.js'
import { openClient, succeeded } from './lib/clients.js'
import { check } from './lib/description.js'
import { addCaller, startDirect, startWorld } from './lib/setup.js'

const TIMEOUT = { timeout: 120_000 }
const sts = ({ endpoint }) => ({ AWS_ENDPOINT_URL_STS: endpoint })

/** Sends a file by somebody's open page; gives what Uppy said of it. */
async function send(page, source) {
  await add(page, [source])
  await startUpload(page)
  return succeeded(page, source)
}

test('Uppy 6 with getCredentials, on moto', (t) => getCredentials(t, startMoto, [10_000, 12 * MIB]))
// Uppy 6.3 signs "~" as "%7E". Ceph's ids of multipart uploads contain it.
test('Uppy 6 with getCredentials, on Ceph', (t) => getCredentials(t, startCeph, [10_000], ROLE))

async function getCredentials(t, service, sizes, role = 'user') {
  const world = await startWorld(t, service)
  const { place, front } = world
  const landfall = await startDirect(t, world, ['-direct-sts', role], sts(place))
  const client = { page: 'uppy/6/', mode: 'sts' }
  const caller = await addCaller(landfall, 'signer')
  const s3Endpoint = `${front.endpoint}/${place.bucket}`

  for (const size of sizes) {
    await t.test(`${size} bytes`, TIMEOUT, async (t) => {
      const { page, calls } = await openClient(t, world, landfall, client, caller.key, { s3Endpoint })
      const source = await sourceFile(t, size, { name: 'own.bin' })
      const { key } = await send(page, source)
      assert.equal(sha256((await object(place, key)).data), source.sha256)
      const { body } = await caller.api.ask('GET', 's3/sts')
      check(body, 'Credentials')
      assert.ok(key.startsWith(body.prefix), key)
      assert.deepEqual([...new Set(calls())], ['GET /s3/sts'])
    })
  }

  await t.test('nobody whose uploads have bounds gets credentials', TIMEOUT, async () => {
    const bounded = await addCaller(landfall, 'bounded', ['--max-size', '1GB'])
    const answer = await bounded.api.ask('GET', 's3/sts')
    assert.equal(answer.status, 403, answer.text)
    assert.equal(answer.body.message, answer.body.error)
  })
}

const IS_LONG = Boolean(process.env.LANDFALL_LONG)
if (IS_LONG) test('Uppy 4 and 5 with getTemporarySecurityCredentials', async (t) => {
  // They know no other address than Amazon's.
  const world = await startWorld(t, startMoto, { amazon: true })
  const { place, front } = world
  const landfall = await startDirect(t, world, ['-direct-sts', 'user'], sts(place))
  for (const major of [4, 5]) {
    const client = { page: `uppy/${major}/`, mode: 'sts' }

    await t.test(`Uppy ${major}: a small file`, TIMEOUT, async (t) => {
      front.reset()
      const caller = await addCaller(landfall, `small-${major}`)
      const { page, calls } = await openClient(t, world, landfall, client, caller.key)
      const source = await sourceFile(t, 10_000, { name: 'own.bin' })
      await send(page, source)
      assert.deepEqual(calls(), ['GET /s3/sts'])
      const { path } = front.requests.find(({ method }) => method === 'PUT')
      assert.equal(sha256((await object(place, path.replace(`/${place.bucket}/`, ''))).data), source.sha256)
    })

    await t.test(`Uppy ${major}: in parts`, TIMEOUT, async (t) => {
      const caller = await addCaller(landfall, `parts-${major}`)
      const { page, calls } = await openClient(t, world, landfall, client, caller.key)
      const source = await sourceFile(t, 12 * MIB, { name: 'own.bin' })
      const { key } = await send(page, source)
      assert.equal(sha256((await object(place, key)).data), source.sha256)
      // Only the parts are signed by the client: it is a row like any other.
      assert.deepEqual(calls().map((call) => call.split('/').slice(0, 3).join('/')), [
        'POST /s3/multipart', 'GET /s3/sts', 'POST /s3/multipart',
      ])
      await until(async () => (await caller.all())[0].state === 'completed')
    })
  }
})
