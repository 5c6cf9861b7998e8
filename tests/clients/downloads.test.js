// Finished uploads that a real Chromium opens by their URL: it makes a document for them, which has to obey the
// policy of the response.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openBrowser, openPage, serveSite } from './lib/browser.js'
import { Landfall } from './lib/landfall.js'

/** A second of silence. */
function wav() {
  const rate = 8000
  const data = Buffer.alloc(rate, 128)
  const head = Buffer.alloc(44)
  head.write('RIFF', 0)
  head.writeUInt32LE(36 + data.length, 4)
  head.write('WAVEfmt ', 8)
  head.writeUInt32LE(16, 16)
  head.writeUInt16LE(1, 20)
  head.writeUInt16LE(1, 22)
  head.writeUInt32LE(rate, 24)
  head.writeUInt32LE(rate, 28)
  head.writeUInt16LE(1, 32)
  head.writeUInt16LE(8, 34)
  head.write('data', 36)
  head.writeUInt32LE(data.length, 40)
  return Buffer.concat([head, data])
}

/** What the browser records of a canvas and draws of it. */
async function recorded(t, browser) {
  const origin = await serveSite(t, { files: { '/index.html': '<!doctype html><title>.</title>' } })
  const { page } = await openPage(t, browser)
  await page.goto(origin)
  const made = await page.evaluate(async () => {
    const canvas = document.createElement('canvas')
    const context = canvas.getContext('2d')
    const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: 'video/webm' })
    const chunks = []
    recorder.ondataavailable = ({ data }) => chunks.push(data)
    const stopped = new Promise((resolve) => { recorder.onstop = resolve })
    recorder.start()
    for (let n = 0; n < 20; n += 1) {
      context.fillStyle = n % 2 ? 'red' : 'blue'
      context.fillRect(0, 0, 300, 150)
      await new Promise((resolve) => { setTimeout(resolve, 40) })
    }
    recorder.stop()
    await stopped
    const text = async (blob) => {
      const bytes = new Uint8Array(await blob.arrayBuffer())
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))
    }
    const png = await new Promise((resolve) => { canvas.toBlob(resolve) })
    return { webm: await text(new Blob(chunks)), png: await text(png) }
  })
  return { webm: Buffer.from(made.webm, 'base64'), png: Buffer.from(made.png, 'base64') }
}

async function upload(landfall, bytes, type) {
  const response = await fetch(landfall.endpoint, {
    method: 'POST',
    headers: {
      'Tus-Resumable': '1.0.0',
      'Upload-Length': String(bytes.length),
      'Upload-Metadata': `filetype ${Buffer.from(type).toString('base64')}`,
      'Content-Type': 'application/offset+octet-stream',
    },
    body: bytes,
  })
  assert.equal(response.status, 201)
  return response.headers.get('location')
}

test('Chromium: a video, a sound and an image play and show by their URL', { timeout: 120_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const browser = await openBrowser(t)
  const { webm, png } = await recorded(t, browser)
  assert.ok(webm.length > 1000, 'Chromium recorded nothing')
  for (const [type, bytes, isShown] of [
    ['video/webm', webm, () => document.querySelector('video')?.readyState >= 2],
    ['audio/wav', wav(), () => document.querySelector('video, audio')?.readyState >= 2],
    ['image/png', png, () => document.images[0]?.naturalWidth === 300],
    ['text/plain', Buffer.from('hello'), () => document.body?.innerText === 'hello'],
  ]) {
    const url = await upload(landfall, bytes, type)
    const { page } = await openPage(t, browser)
    const refusals = []
    page.on('console', (message) => refusals.push(message.text()))
    const response = await page.goto(url)
    assert.match(response.headers()['content-security-policy'], /^sandbox; default-src 'none'/)
    const shown = async () => page.evaluate(isShown)
    for (let tries = 0; !(await shown()); tries += 1) {
      assert.ok(tries < 200, `${type} is not shown: ${refusals.join('; ')}`)
      await page.waitForTimeout(100)
    }
    assert.deepEqual(refusals.filter((text) => /Content Security Policy/i.test(text)), [], type)
  }
})
