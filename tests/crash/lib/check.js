// Invariants after each start and at the end.

import assert from 'node:assert/strict'
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { ask } from './request.js'

/** Acknowledged data exists with the right bytes; terminated uploads do not exist. */
export async function checkUploads(landfall, uploads) {
  for (const upload of uploads) {
    const { state, acknowledged } = upload
    const { status, headers } = await ask('HEAD', upload.url)
    // An upload that is being terminated or created is in either state.
    if (upload.state === 'ending' || status === 423) continue
    if (state === 'gone') {
      // A rejection is repeated.
      if (upload.isRejected(status)) continue
      assert.equal(status, 404, `${upload.url} was removed, and is back`)
      continue
    }
    if (upload.state === 'gone') continue
    if (state === 'abandoned' && upload.isOver(status)) continue
    // Its client may not have been notified yet.
    if (upload.isRejected(status)) continue
    assert.equal(status, 200, `HEAD of ${upload.url}`)
    const offset = Number(headers['upload-offset'] ?? 0)
    assert.ok(offset >= acknowledged, `${upload.url} is at ${offset}; ${acknowledged} was acknowledged`)
    const stored = await readFile(landfall.pathOf(upload.url)).catch((error) => {
      const mayBeGone = upload.state !== state || upload.fate
      if (error.code !== 'ENOENT' || !mayBeGone) throw error
      return null
    })
    if (!stored) continue
    if (upload.changed) {
      assert.equal(offset, upload.length, `${upload.url} was finished`)
      assert.ok(stored.equals(upload.changed), `${upload.url} has other bytes than the application wrote`)
      continue
    }
    const sure = Math.max(offset, acknowledged)
    assert.ok(stored.length >= sure, `${upload.url} has ${stored.length} bytes, and said ${sure}`)
    assert.ok(
      stored.subarray(0, sure).equals(upload.source.subarray(0, sure)),
      `${upload.url} has other bytes than were sent`,
    )
    if (state === 'complete') assert.equal(stored.length, upload.length)
  }
}

/**
 * After a sweep there is nothing but finished uploads: those of `uploads`, and such of which no client
 * ever heard. A partial upload expires whether it is complete or not.
 */
export async function checkSwept(landfall, uploads) {
  const names = new Set(await readdir(landfall.dir))
  names.delete('.landfall')
  const stays = ({ state, isPartial }) => state === 'complete' && !isPartial
  for (const { url } of uploads.filter(stays)) {
    const id = landfall.idOf(url)
    assert.ok(names.delete(id) && names.delete(`${id}.info`), `${id} is complete, and was swept away`)
  }
  for (const { url } of uploads.filter((upload) => !stays(upload))) {
    const id = landfall.idOf(url)
    // A rejection replaces the upload by its description, so one that was killed leaves empty files, as a creation does.
    for (const name of [id, `${id}.info`].filter((one) => names.has(one))) {
      assert.equal((await stat(join(landfall.dir, name))).size, 0, `${name} was left behind`)
    }
  }
  for (const info of [...names].filter((name) => name.endsWith('.info'))) {
    const id = info.slice(0, -'.info'.length)
    const json = await readFile(join(landfall.dir, info), 'utf8')
    if (json === '') continue
    const { Size } = JSON.parse(json)
    const { size } = await stat(join(landfall.dir, id))
    assert.equal(size, Size, `${id} is not finished, and was left behind`)
    names.delete(info)
    names.delete(id)
  }
  const left = await Promise.all([...names].map(async (name) => {
    const { size } = await stat(join(landfall.dir, name))
    return { name, size }
  }))
  // A creation that was killed leaves empty files, and nothing proves whose they are.
  const full = left.filter(({ size }) => size > 0).map(({ name, size }) => `${name} (${size} bytes)`)
  assert.deepEqual(full, [], 'left behind')
}
