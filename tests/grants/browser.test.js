// The application of examples/grants in Chromium, with Uppy.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openBrowser, openPage, serveSite } from '../clients/lib/browser.js'
import { FaultProxy } from '../clients/lib/proxy.js'
import { MIB, sourceFile } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { add, startUpload } from '../clients/lib/uppy.js'
import { App } from './lib/app.js'
import { Caller, withGrants } from './lib/queue.js'

/** Landfall, the application, and a signed-in user. */
async function setUp(t, args = []) {
  const app = await App.reserve()
  const landfall = await withGrants(t, [...app.args, ...app.crossOrigin, ...app.hooks, ...args])
  const proxy = await FaultProxy.start(t, landfall)
  const { origin } = new URL(proxy.endpoint)
  await app.start(t, origin)
  const { page } = await openPage(t, await openBrowser(t))
  const asked = []
  page.on('response', (response) => {
    const { pathname } = new URL(response.url())
    const method = response.request().method()
    if (response.url().startsWith(origin) && method !== 'OPTIONS') asked.push({ method, pathname, status: response.status() })
  })
  await page.goto(`${app.origin}/`)
  await page.getByLabel('Name').fill('ann')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('Signed in as ann').waitFor({ timeout: 60_000 })
  const [cookie] = await page.context().cookies(app.origin)
  const session = `${cookie.name}=${cookie.value}`
  const ann = new Caller(landfall.endpoint, { Cookie: session, 'X-Requested-With': 'test' })
  return { app, landfall, proxy, page, asked, session, ann }
}

/** The row of the page's list for a file. */
const row = (page, name) => page.locator('#list li', { hasText: name })

test('Uppy requests a grant, uploads with progress, and the application receives the event', { timeout: 120_000 }, async (t) => {
  const { app, landfall, proxy, page, asked, session, ann } = await setUp(t)
  proxy.bytesPerSecond = 4 * MIB
  const source = await sourceFile(t, 10 * MIB, { name: 'holiday.png' })
  await add(page, [source])
  await startUpload(page)
  // Seen over server-sent events; Uppy's own progress is somewhere else on the page.
  const seen = new Set()
  await until(async () => {
    const text = await row(page, 'holiday.png').textContent({ timeout: 20_000 }).catch(() => '')
    const [, state, share] = /holiday\.png(\w+) (\d+) %/.exec(text) ?? []
    if (state === 'progress') seen.add(share)
    return state === 'completed'
  }, 60_000)
  assert.ok(seen.size >= 2, `only saw ${[...seen]}`)

  const [job] = await ann.all()
  assert.deepEqual(
    [job.state, job.filename, job.filetype, job.size, job.offset],
    ['completed', 'holiday.png', 'image/png', source.size, source.size])
  const [info] = await landfall.allInfos()
  assert.equal(await landfall.sha256(`${landfall.endpoint}${info.ID}`), source.sha256)
  await until(async () => (await app.files(session)).length === 1)
  assert.deepEqual(await app.files(session), [{ filename: 'holiday.png', size: source.size, upload: info.ID }])
  assert.equal(asked.filter(({ method, pathname }) => method === 'POST' && pathname === '/uploadjobs').length, 1)
  assert.equal(asked.filter(({ method, pathname }) => method === 'POST' && pathname === '/files/').length, 1)
})

test('cancelled in the middle: the transfer stops, the file goes, the page hears so', { timeout: 120_000 }, async (t) => {
  const { app, landfall, proxy, page, session, ann } = await setUp(t)
  proxy.bytesPerSecond = 2 * MIB
  await add(page, [await sourceFile(t, 30 * MIB, { name: 'unwanted.bin' })])
  await startUpload(page)
  await row(page, 'unwanted.bin').getByText('progress').waitFor({ timeout: 30_000 })
  await proxy.whenPassed(2 * MIB)
  await row(page, 'unwanted.bin').getByRole('button', { name: 'Cancel' }).click()
  await page.locator('#list li[data-state=cancelled]').waitFor()
  await until(async () => (await landfall.allInfos()).length === 0)
  const rest = proxy.passed
  await sleep(1_000)
  assert.ok(proxy.passed - rest < MIB, `${proxy.passed - rest} bytes more`)
  await page.locator('.uppy-Dashboard-Item', { hasText: 'unwanted.bin' }).waitFor({ state: 'detached' })
  const [job] = await ann.all()
  assert.equal(job.state, 'cancelled')
  assert.ok(job.offset < 30 * MIB)
  assert.deepEqual(await app.files(session), [])
})

test('a token whose time is over: Uppy says why', { timeout: 120_000 }, async (t) => {
  const { landfall, page, ann } = await setUp(t, ['--grants-valid-for', '1s'])
  await page.route('**/files/', async (route) => {
    if (route.request().method() === 'POST') await sleep(2_000)
    await route.continue()
  })
  await add(page, [await sourceFile(t, 1_000, { name: 'late.bin' })])
  await startUpload(page)
  await page.locator('.uppy-StatusBar.is-error').waitFor()
  let why = ''
  page.on('dialog', (dialog) => {
    why = dialog.message()
    return dialog.accept()
  })
  await page.getByRole('button', { name: 'Show error details' }).click()
  assert.match(why, /410/)
  assert.match(why, /expired|over|late/i)
  assert.deepEqual(await landfall.allInfos(), [])
  // The row follows when the queue is looked through.
  await until(async () => (await ann.all())[0].state === 'expired', 40_000)

  // Another try asks again, and gets there.
  await page.unroute('**/files/')
  await page.locator('.uppy-StatusBar-actionBtn--retry').click()
  await page.locator('#list li[data-state=completed]').waitFor({ timeout: 30_000 })
})

test("a page of another origin cannot use the session", { timeout: 120_000 }, async (t) => {
  const { landfall, page, ann } = await setUp(t)
  const granted = await ann.grant({ id: 'mine', filesize: 1 })
  assert.equal(granted.state, 'received')
  // The same host on another port is the same site: SameSite alone stops nothing here.
  const { origin } = new URL(landfall.endpoint)
  const elsewhere = await serveSite(t, { files: { '/index.html': '<!doctype html><h1>free prizes</h1>' } })
  const evil = await page.context().newPage()
  await evil.goto(elsewhere)
  const tries = await evil.evaluate(async (jobs) => {
    const json = { 'Content-Type': 'application/json' }
    const body = JSON.stringify({ id: 'stolen', filename: 'a', filesize: 1 })
    const attempts = [
      [jobs, { method: 'POST', body, mode: 'no-cors', headers: { 'Content-Type': 'text/plain' } }],
      [jobs, { method: 'POST', body, headers: json }],
      [`${jobs}/mine`, { method: 'DELETE' }],
      [jobs, {}],
    ]
    const seen = []
    for (const [url, options] of attempts) {
      const answer = await fetch(url, { credentials: 'include', ...options }).catch((error) => error)
      seen.push(answer instanceof Error ? 'blocked' : `${answer.type} ${answer.status}`)
    }
    return seen
  }, `${origin}/uploadjobs`)
  assert.deepEqual(tries, ['opaque 0', 'blocked', 'blocked', 'blocked'])
  // A plain form needs no leave of CORS.
  await evil.setContent(`<form method="post" action="${origin}/uploadjobs" enctype="text/plain"><input name='{"id":"formed","filename":"a","filesize":1,"x":"' value='"}'></form>`)
  const [answer] = await Promise.all([
    evil.waitForResponse(`${origin}/uploadjobs`),
    evil.evaluate(() => document.forms[0].submit()),
  ])
  assert.ok([403, 415].includes(answer.status()), String(answer.status()))
  const left = await ann.all()
  assert.deepEqual(left.map(({ request_id, state }) => [request_id, state]), [['mine', 'received']])
})
