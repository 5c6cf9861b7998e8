// Invariants after each start and at the end.

import assert from 'node:assert/strict'
import { ask } from './request.js'

/** Acknowledged data exists with the right bytes; terminated uploads do not exist. */
export async function checkUploads(servers, store, uploads) {
  for (const upload of uploads) {
    const { state, acknowledged } = upload
    const { status, headers } = await ask('HEAD', upload.url)
    if (status === 423) continue
    // An upload that is being terminated is there, or gone, or in between.
    if (upload.state === 'ending') {
      const isKnown = status === 200 || status === 404 || (status === 410 && store.leavesRemains)
      assert.ok(isKnown, `HEAD of ${upload.url}, which is being terminated: ${status}`)
      continue
    }
    if (state === 'gone') {
      // A rejection is repeated.
      if (upload.isRejected(status, store)) continue
      // A bucket may store a description that a killed process was sending after the next one has removed the upload:
      // without its bytes, until the next sweep.
      if (status === 410 && store.leavesRemains) continue
      assert.equal(status, 404, `${upload.url} was removed, and is back`)
      continue
    }
    if (upload.state === 'gone') continue
    if (state === 'abandoned' && upload.isOver(status)) continue
    // Its client may not have been notified yet.
    if (upload.isRejected(status, store)) continue
    assert.equal(status, 200, `HEAD of ${upload.url} (${state}, ${upload.fate}, partial: ${upload.isPartial})`)
    const offset = Number(headers['upload-offset'] ?? 0)
    if (upload.isRestarted(offset) && store.restartsRemoved) continue
    assert.ok(offset >= acknowledged, `${upload.url} is at ${offset}; ${acknowledged} was acknowledged`)
    // The bytes of an unfinished upload in a bucket are compared when it is finished.
    if (state !== 'complete' && !store.isReadableUnfinished) continue
    const stored = await store.read(servers.idOf(upload.url))
    if (!stored) {
      const mayBeGone = upload.state !== state || upload.fate
      assert.ok(mayBeGone, `${upload.url} (${state}) has no bytes`)
      continue
    }
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
 * ever heard. A partial upload expires whether it is complete or not. What is of others is as it was.
 */
export async function checkSwept(servers, store, uploads) {
  await store.assertForeign()
  const found = await store.list()
  for (const { url, state, isPartial } of uploads) {
    const id = servers.idOf(url)
    const { all, finished } = store.names(id)
    const expected = state === 'complete' && !isPartial ? finished : []
    const has = all.filter((name) => found.has(name))
    assert.deepEqual(has, expected, `${id} is ${state}`)
    for (const name of has) found.delete(name)
  }
  for (const name of [...found.keys()].filter((one) => one.endsWith('.info'))) {
    const id = name.slice(0, -'.info'.length)
    assert.equal(found.get(id), await store.described(name), `${id} is not finished, and was left behind`)
    found.delete(name)
    found.delete(id)
  }
  const ids = new Set([...found.keys()].map((name) => name.match(/[0-9a-f]{32}/)?.[0]))
  const stories = uploads.filter(({ url }) => ids.has(servers.idOf(url)))
  const story = stories.map((one) => `${one.url}: ${one.state}, ${one.fate}, final: ${Boolean(one.parts)}`)
  assert.deepEqual([...found], [], `left behind: ${story.join('; ')}`)
}
