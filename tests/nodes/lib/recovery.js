// Measures from when on a cluster serves again after a failure: writes, grants and events.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Unanswered, BYTES, ask } from '../../crash/lib/request.js'
import { Listener } from '../../grants/lib/listener.js'
import { Caller } from '../../grants/lib/queue.js'

const RETRY_MS = 50
/** The time limit of a recovery. */
const LIMIT_MS = 60_000
const LENGTH = 1_000

/** Statuses that a client may get during a failure, and retries. */
export const PASSING = new Set([409, 423, 503])

/** Repeats `attempt` until it gives something; gives the milliseconds from `since` on. */
async function until(since, attempt) {
  for (;;) {
    if (await attempt()) return performance.now() - since
    assert.ok(performance.now() - since < LIMIT_MS, `not within ${LIMIT_MS} ms: ${attempt}`)
    await sleep(RETRY_MS)
  }
}

/** An upload with a running request, and a listener, both on the node that is going to fail. */
export class Probe {
  #balancer
  #callers
  #listener
  #url
  #running

  /** `key` may request grants. `node` is a node of `fleet`. */
  static async prepare(fleet, node, key, id) {
    const probe = new Probe()
    probe.id = id
    probe.#balancer = fleet.balancer.endpoint
    probe.#callers = Caller.withKey(probe.#balancer, key)
    // Its hooks are called as the test ends.
    probe.#listener = await Listener.open({ after: () => {} }, Caller.withKey(node.endpoint, key))
    probe.#listener.url = `${probe.#callers.url}/events`
    await until(performance.now(), async () => {
      const { status, headers } = await ask('POST', probe.#balancer, { headers: { 'Upload-Length': LENGTH } }).catch(unanswered)
      probe.#url = headers?.location
      return isDone('POST', status, 201)
    })
    probe.#running = ask('PATCH', node.own(probe.#url), {
      headers: { 'Upload-Offset': 0, ...BYTES },
      body: Buffer.alloc(LENGTH),
      duration: LIMIT_MS,
    }).catch(unanswered)
    // The first bytes are there, and the lease is.
    await sleep(500)
    return probe
  }

  /** Gives the milliseconds from `since` on until each was served again: `{ write, grant, events }`. */
  async recovered(since) {
    const [write, [grant, events]] = await Promise.all([this.#write(since), this.#grant(since)])
    await this.#running
    return { write, grant, events }
  }

  close() {
    return this.#listener.close()
  }

  /** One byte more of the upload, through any node. */
  #write(since) {
    return until(since, async () => {
      const seen = await ask('HEAD', this.#url).catch(unanswered)
      if (!isDone('HEAD', seen.status, 200)) return false
      const offset = Number(seen.headers['upload-offset'])
      const sent = await ask('PATCH', this.#url, {
        headers: { 'Upload-Offset': offset, ...BYTES }, body: Buffer.alloc(1),
      }).catch(unanswered)
      return isDone('PATCH', sent.status, 204)
    })
  }

  /** A grant, and the event of its end. */
  async #grant(since) {
    const attempt = async (method, path, body, ...expected) => {
      const { status } = await this.#callers.ask(method, path, body).catch(unanswered)
      return isDone(method, status, ...expected)
    }
    const grant = { id: this.id, filename: 'probe.bin', filesize: 1 }
    const granted = await until(since, () => attempt('POST', '', grant, 201, 200))
    // Cancelled before, if the response was lost.
    await until(since, () => attempt('DELETE', `/${this.id}`, undefined, 200, 409))
    const heard = await until(since, () => this.#listener.story(this.id).includes('UploadCancelled'))
    return [granted, heard]
  }
}

/** The response of a request that got none. */
function unanswered(error) {
  const isBroken = error instanceof Unanswered || error instanceof TypeError || error.name === 'TimeoutError'
  if (!isBroken) throw error
  return { status: 0 }
}

function isDone(method, status, ...expected) {
  const isKnown = status === 0 || PASSING.has(status) || expected.includes(status)
  assert.ok(isKnown, `${method} was answered ${status} during a failure`)
  return expected.includes(status)
}
