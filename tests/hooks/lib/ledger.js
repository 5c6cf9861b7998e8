// Compares the deliveries to a receiver with the expected events.

import assert from 'node:assert/strict'

/** Returns the upload of a delivery in any format. */
export function uploadOf({ message }) {
  return (message.Event ?? message).Upload
}

/** Groups deliveries by upload, in order. */
export function byUpload(deliveries) {
  const uploads = new Map()
  for (const delivery of deliveries) {
    const { ID } = uploadOf(delivery)
    if (!uploads.has(ID)) uploads.set(ID, [])
    uploads.get(ID).push(delivery)
  }
  return uploads
}

/**
 * Checks one upload's deliveries: the `expected` ones arrived at least once and in order, duplicates
 * have the same id, sequence number and body, and there are no others. After a crash (`replayed`)
 * the server may restart at an earlier event, and then delivers all later ones again.
 */
export function assertDeliveries(id, deliveries, expected, { replayed = false } = {}) {
  const hooks = deliveries.map(({ hook }) => hook)
  const summary = `upload ${id} got ${hooks.join(', ') || 'no events'}`
  const steps = hooks.map((hook) => expected.indexOf(hook))
  let furthest = -1
  for (const [n, step] of steps.entries()) {
    assert.ok(step >= 0, `${summary}, but did not expect ${hooks[n]}`)
    const before = n === 0 ? -1 : steps[n - 1]
    const isInOrder = step === before || step === before + 1
    assert.ok(isInOrder || (replayed && step < before), summary)
    furthest = Math.max(furthest, step)
  }
  assert.equal(furthest, expected.length - 1, `${summary}; expected ${expected.join(', ')}`)
  assert.equal(steps.at(-1), furthest, `${summary}; the last event is not the final one`)
  const first = new Map()
  let sequence = 0
  for (const delivery of deliveries) {
    const before = first.get(delivery.hook)
    if (!before) {
      first.set(delivery.hook, delivery)
      assert.ok(delivery.sequence > sequence, `${id}: ${delivery.sequence} after ${sequence}`)
      sequence = delivery.sequence
    } else {
      assert.equal(delivery.id, before.id, `${id}: a repeated ${delivery.hook} has another id`)
      assert.equal(delivery.sequence, before.sequence, `${id}: ${delivery.hook}`)
      assert.deepEqual(uploadOf(delivery), uploadOf(before), `${id}: ${delivery.hook}`)
    }
  }
}

/** Checks that different events have different ids. */
export function assertDistinct(deliveries) {
  const facts = new Map()
  for (const delivery of deliveries) {
    assert.match(delivery.id, /^[0-9a-f]{32}$/)
    const fact = `${delivery.hook} of ${uploadOf(delivery).ID}`
    const known = facts.get(delivery.id) ?? fact
    assert.equal(known, fact, `one id for two things: ${delivery.id}`)
    facts.set(delivery.id, fact)
  }
}
