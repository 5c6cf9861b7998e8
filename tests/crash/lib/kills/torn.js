// One kill while uploads are unfinished; a disk or another program then damages their descriptions. No other upload is
// harmed, no byte is lost, and a description from a backup makes the upload resume.

import assert from 'node:assert/strict'
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises'

import { Landfall } from '../../../clients/lib/landfall.js'
import { bytes } from '../../../clients/lib/source.js'
import { BYTES, append, ask, assertOffset, create } from '../request.js'
import { settingsOf } from '../stores.js'

const SIZE = 200_000
const SENT = 120_000

const WAYS = {
  'cut in the middle': async (info) => truncate(info, Math.floor((await readFile(info)).length / 2)),
  'cut before its last byte': async (info) => truncate(info, (await readFile(info, 'utf8')).trimEnd().length - 1),
  empty: (info) => truncate(info, 0),
  'with garbage after it': (info) => appendFile(info, '\0\0\0}{"Offset":0'),
  'all zeros': async (info) => writeFile(info, Buffer.alloc((await readFile(info)).length)),
}

export async function torn(t, row) {
  const landfall = await Landfall.start(t, { args: await settingsOf(t, row) })
  const uploads = []
  for (const [n, way] of Object.keys(WAYS).entries()) {
    const source = bytes(SIZE, n)
    uploads.push({ way, source, url: await create(landfall.endpoint, source, SENT) })
  }
  const other = { source: bytes(SIZE, 99) }
  other.url = await create(landfall.endpoint, other.source, SENT)
  await landfall.kill()
  for (const upload of uploads) {
    const info = `${landfall.pathOf(upload.url)}.info`
    upload.description = await readFile(info)
    await WAYS[upload.way](info)
  }
  await landfall.restart()

  for (const { way, url, source } of uploads) {
    const { status } = await ask('HEAD', url)
    assert.ok(status >= 400, `HEAD of an upload whose description is ${way}: ${status}`)
    const patched = await ask('PATCH', url, { headers: { 'Upload-Offset': SENT, ...BYTES }, body: source.subarray(SENT) })
    assert.ok(patched.status >= 400, `PATCH of an upload whose description is ${way}: ${patched.status}`)
    const stored = await readFile(landfall.pathOf(url))
    assert.ok(stored.equals(source.subarray(0, SENT)), `bytes of an upload whose description is ${way}`)
  }
  await assertOffset(other.url, SENT)
  await append(other.url, other.source, SENT)
  assert.ok((await readFile(landfall.pathOf(other.url))).equals(other.source))

  // After restoring a description from a backup the upload resumes, also without a restart.
  for (const { way, url, source, description } of uploads) {
    await writeFile(`${landfall.pathOf(url)}.info`, description)
    await assertOffset(url, SENT, way)
    await append(url, source, SENT, { what: way })
    assert.ok((await readFile(landfall.pathOf(url))).equals(source), way)
  }
}
