// landfall with direct uploads, the bucket, and somebody with a page: each on an origin of its own.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openBrowser, openPage } from '../../clients/lib/browser.js'
import { Landfall } from '../../clients/lib/landfall.js'
import { tempDir } from '../../clients/lib/source.js'
import { addKey, Caller } from '../../grants/lib/queue.js'
import { run } from '../../hooks/lib/programs.js'
import { startGarage } from '../../nodes/lib/services.js'
import { Front } from './front.js'
import { servePages } from './pages.js'

const credentials = ({ region, accessKey, secretKey }) => ({
  AWS_REGION: region,
  AWS_ACCESS_KEY_ID: accessKey,
  AWS_SECRET_ACCESS_KEY: secretKey,
})

/**
 * The service, what browsers see of it, and the pages, for all tests of a file; `t` is its outermost. With
 * `amazon` browsers find the service at Amazon's own address in the region.
 */
export async function startWorld(t, service = startGarage, { amazon = false } = {}) {
  const place = await service(t)
  const origin = await servePages(t)
  const front = await Front.start(t, place, amazon ? await certificate(t) : undefined)
  await setCors(place, origin)
  const { host } = new URL(front.endpoint)
  const flags = [`--host-resolver-rules=MAP s3.${place.region}.amazonaws.com ${host}`, '--ignore-certificate-errors']
  return { place, origin, front, browser: await openBrowser(t, amazon ? flags : []) }
}

/** A certificate that nobody trusts. */
async function certificate(t) {
  const dir = await tempDir(t)
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=test', '-keyout', key, '-out', cert]
  const made = await run('openssl', args)
  assert.equal(made.code, 0, made.stderr)
  return { key: await readFile(key), cert: await readFile(cert) }
}

/** Lets pages of `origin` talk to the bucket, as the documentation says. */
export async function setCors(place, origin) {
  const args = ['s3', 'set-cors', '--origin', origin, '-s3-bucket', place.bucket, '-s3-endpoint', place.endpoint]
  const inherited = Object.entries(process.env).filter(([name]) => !/^(LANDFALL|AWS)_/.test(name))
  const env = { ...Object.fromEntries(inherited), ...credentials(place) }
  const set = await run(process.env.LANDFALL_BIN, args, { env })
  assert.equal(set.code, 0, `${set.stdout}\n${set.stderr}`)
}

/** landfall with direct uploads into the bucket of a world. */
export async function startDirect(t, { place, front, origin }, args = [], env = {}) {
  const dir = await tempDir(t)
  const landfall = await Landfall.start(t, {
    shared: dir,
    env: { ...credentials(place), ...env },
    args: [
      '-direct',
      ...databaseIn(dir),
      ...['-direct-endpoint', front.endpoint],
      ...['-sweep-interval', '10s'],
      ...['-s3-bucket', place.bucket],
      ...['-s3-endpoint', place.endpoint],
      ...['-cors-allow-origin', `^${origin}$`],
      ...args,
    ],
  })
  landfall.origin = new URL(landfall.endpoint).origin
  return landfall
}

const databaseIn = (dir) => ['-database', join(dir, 'landfall.db')]

/** Somebody with a key for `landfall`, by name; `api` is whoever has the key, too, at any path. */
export async function addCaller(landfall, name, args = []) {
  const key = await addKey(landfall, name, args, databaseIn(landfall.dir))
  const api = new Caller(landfall.origin, { Authorization: `Bearer ${key}` }, '/')
  return Object.assign(Caller.withKey(landfall.endpoint, key), { key, api })
}

/** Opens a page of the world, e.g. `uppy/6/`, with these settings. */
export async function openWith(t, { origin, browser }, path, settings) {
  const { page, preflights } = await openPage(t, browser)
  t.after(() => page.context().close())
  const asked = []
  page.on('response', (response) => {
    if (response.request().method() === 'OPTIONS' || !response.url().startsWith(settings.server)) return
    const { pathname, search } = new URL(response.url())
    asked.push({ method: response.request().method(), path: pathname, search, status: response.status() })
  })
  await page.goto(`${origin}/${path}?settings=${encodeURIComponent(JSON.stringify(settings))}`)
  return { page, preflights, asked }
}
