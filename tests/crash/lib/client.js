// Clients that resume after every failure and record acknowledged data.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

import { bytes } from '../../clients/lib/source.js'
import { BYTES, Unanswered, ask, checksum } from './request.js'

/** An upload as its client knows it. */
export class Upload {
  constructor(seed, length) {
    this.source = bytes(length, seed)
    this.length = length
    this.url = null
    /** The acknowledged offset. */
    this.acknowledged = 0
    /** The method of the request that acknowledged it. */
    this.method = 'POST'
    /** The maximum offset, from bytes sent without a checksum. */
    this.furthest = 0
    /** `growing`, `complete`, `ending` (a DELETE is running), `gone`, `abandoned` (it expires). */
    this.state = 'growing'
    /** The decision of the application: `refused` at creation, `rejected` at completion, `abandoned`. */
    this.fate = null
    /** Whether the application was asked about its completion, and has rejected it. */
    this.isDenied = false
    /** Whether its client is going to remove it. */
    this.isTemporary = false
    /** When it expires, in milliseconds since 1970. */
    this.expires = null
    /** The partial uploads of a final upload. */
    this.parts = null
  }

  /** Records an acknowledged offset. Without a length, the upload is not complete. */
  tell(method, offset, { isDeferred = false, restartsRemoved = false } = {}) {
    if (restartsRemoved && this.isRestarted(offset)) this.acknowledged = 0
    const story = `${this.state}, ${this.fate}, denied: ${this.isDenied}`
    const fall = `went from ${this.acknowledged} (${this.method}) to ${offset} (${method})`
    assert.ok(offset >= this.acknowledged, `${this.url} ${fall} (${story})`)
    assert.ok(offset <= this.furthest, `${this.url} is at ${offset}, and only ${this.furthest} were sent`)
    assert.ok(this.fate !== 'rejected' || offset < this.length, `${this.url} is complete, and was rejected`)
    this.acknowledged = offset
    this.method = method
    if (offset === this.length && !isDeferred) this.state = 'complete'
  }

  /**
   * Returns whether a status means that the application rejected it, which it has; later requests get the same, or
   * find nothing, or in a bucket the remains of an interrupted removal.
   */
  isRejected(status, { leavesRemains }) {
    return this.isDenied && (status === 422 || status === 404 || (status === 410 && leavesRemains))
  }

  /**
   * Returns whether this offset means that its removal was interrupted, because the application has rejected it: in
   * some clouds, nothing tells an upload whose bytes were removed from one that has none yet.
   */
  isRestarted(offset) {
    return this.isDenied && offset === 0
  }

  /** Returns whether a status means that it has expired, rightly. */
  isOver(status) {
    return (status === 404 || status === 410) && Date.now() >= this.expires
  }
}

/**
 * A client with random scenarios. `random` decides, `endpoint()` returns the server's address, `uploads` are all
 * uploads with an acknowledged creation, `hasFailed()` returns whether the test is over because something else
 * failed, `store` is where they are stored. A response with a status for which `isPassing(status, since)` counts as none.
 * The application decides by hooks, unless `isUndecided`. A body takes `duration()` milliseconds until `hurry`, a
 * signal, is aborted, and a retry waits for `delay()`.
 */
export class Client {
  constructor({ store, ...options }) {
    const { mostLength, mostBody, leavesRemains, restartsRemoved } = store
    const defaults = { isUndecided: false, duration: () => 0, delay: () => 10 + 30 * options.random() }
    Object.assign(this, defaults, options, { mostLength, mostBody, leavesRemains, restartsRemoved })
    this.seeds = 0
  }

  async #ask(method, url, options) {
    const since = performance.now()
    const answer = await ask(method, url, { ...options, duration: this.duration(), hurry: this.hurry })
    if (!this.isPassing(answer.status, since)) return answer
    throw new Unanswered(`${method} ${url}: ${answer.status}`)
  }

  #below(most) {
    return Math.floor(this.random() * most)
  }

  /** Runs one scenario. */
  async play(name) {
    const make = () => new Upload(`${name} ${(this.seeds += 1)}`, 1 + this.#below(this.#below(4) ? 60_000 : this.mostLength))
    const kind = this.#below(13)
    if (kind < 2) return this.#concatenate([make(), make()])
    const upload = make()
    const isDeferred = kind === 2
    upload.isTemporary = kind === 3 || kind === 4
    if (!this.isUndecided) upload.fate = { 5: 'refused', 6: 'rejected', 7: 'abandoned' }[kind] ?? null
    if (!(await this.#create(upload, { isDeferred }))) return undefined
    if (upload.fate === 'abandoned') return this.#abandon(upload)
    if (kind === 3) {
      // Terminated in the middle.
      await this.#fill(upload, { end: this.#below(upload.length) })
      return this.remove(upload)
    }
    await this.#fill(upload, { isDeferred })
    if (upload.isTemporary) await this.remove(upload)
    return undefined
  }

  /** POST; without a response, the upload is an orphan and the result `false`. */
  async #create(upload, { isDeferred = false, concat } = {}) {
    const headers = isDeferred ? { 'Upload-Defer-Length': '1' } : { 'Upload-Length': upload.length }
    if (concat) headers['Upload-Concat'] = concat
    if (upload.fate) headers['Upload-Metadata'] = `fate ${Buffer.from(upload.fate).toString('base64')}`
    // An upload with a decision is never complete at once.
    const most = upload.fate ? upload.length : upload.length + 1
    const body = !isDeferred && this.random() < 0.3 ? upload.source.subarray(0, this.#below(most)) : undefined
    if (body) Object.assign(headers, BYTES)
    try {
      const { status, headers: told } = await this.#ask('POST', this.endpoint(), { headers, body })
      if (upload.fate === 'refused') {
        assert.equal(status, 403, 'a creation that the application refuses')
        return false
      }
      assert.equal(status, 201)
      upload.url = told.location
      if (upload.fate === 'abandoned') {
        upload.state = 'abandoned'
        upload.expires = Date.parse(told['upload-expires'])
      }
      upload.furthest = body?.length ?? 0
      if (body) upload.tell('POST', Number(told['upload-offset']))
    } catch (error) {
      await this.#endure(error)
      return false
    }
    this.uploads.push(upload)
    return true
  }

  /** Sends bytes up to `end`, in requests of all kinds, with retries. */
  async #fill(upload, { end = upload.length, isDeferred = false } = {}) {
    while (upload.state === 'growing' && (upload.acknowledged < end || end === upload.length)) {
      const start = upload.acknowledged
      const size = Math.min(end - start, 1 + this.#below(this.random() < 0.5 ? 20_000 : this.mostBody))
      const body = upload.source.subarray(start, start + size)
      const headers = { ...BYTES, 'Upload-Offset': start }
      if (isDeferred && (start + size === upload.length || this.random() < 0.2)) {
        headers['Upload-Length'] = upload.length
      }
      const way = this.random()
      const isRight = this.random() < 0.7
      const options = { headers, body }
      if (way < 0.2) headers['Upload-Checksum'] = checksum(body, isRight)
      else if (way < 0.4) options.trailers = { 'Upload-Checksum': checksum(body, isRight) }
      const isWrong = way < 0.4 && !isRight
      // A wrong checksum never counts, however the request ends.
      if (!isWrong) upload.furthest = Math.max(upload.furthest, start + size)
      try {
        const { status, headers: told } = await this.#ask('PATCH', upload.url, options)
        if (upload.isRejected(status, this)) {
          upload.state = 'gone'
          return
        }
        if (isWrong) {
          assert.equal(status, 460, `${upload.url} with a wrong checksum`)
        } else {
          assert.equal(status, 204, `PATCH of ${upload.url} at ${start}`)
          assert.equal(Number(told['upload-offset']), start + size)
          upload.tell('PATCH', start + size)
        }
      } catch (error) {
        await this.#endure(error)
        await this.#inspect(upload)
      }
    }
  }

  /** Requests the offset until there is a response. */
  async #inspect(upload) {
    for (;;) {
      try {
        const { status, headers } = await this.#ask('HEAD', upload.url)
        if (upload.isRejected(status, this)) {
          upload.state = 'gone'
          return
        }
        // Locked: the previous request is still being ended.
        if (status !== 423) {
          assert.equal(status, 200, `HEAD of ${upload.url} (${upload.state}, ${upload.fate})`)
          // A length sent with the last bytes is stored after them, so it may have to be sent again.
          upload.tell('HEAD', Number(headers['upload-offset']), {
            isDeferred: 'upload-defer-length' in headers,
            restartsRemoved: this.restartsRemoved,
          })
          return
        }
      } catch (error) {
        await this.#endure(error)
      }
      await sleep(20)
    }
  }

  /** Sends once more, ignores the result, and never returns. */
  async #abandon(upload) {
    const start = upload.acknowledged
    const body = upload.source.subarray(start, start + this.#below(upload.length - start))
    upload.furthest = start + body.length
    try {
      const { status } = await this.#ask('PATCH', upload.url, { headers: { ...BYTES, 'Upload-Offset': start }, body })
      if (status === 204) upload.tell('PATCH', start + body.length)
      else assert.ok(upload.isOver(status), `PATCH of ${upload.url}: ${status}`)
    } catch (error) {
      await this.#endure(error)
    }
  }

  async #concatenate(parts) {
    for (const part of parts) {
      if (!(await this.#create(part, { concat: 'partial' }))) return
      part.isPartial = true
      await this.#fill(part)
    }
    const whole = new Upload('', 0)
    whole.source = Buffer.concat(parts.map((part) => part.source))
    whole.length = whole.source.length
    whole.furthest = whole.length
    whole.parts = parts
    const paths = parts.map((part) => new URL(part.url).pathname)
    try {
      const { status, headers } = await this.#ask('POST', this.endpoint(), {
        headers: { 'Upload-Concat': `final;${paths.join(' ')}` },
      })
      assert.equal(status, 201, 'a final upload')
      whole.url = headers.location
    } catch (error) {
      await this.#endure(error)
      return
    }
    this.uploads.push(whole)
    while (whole.state !== 'complete') {
      await this.#inspect(whole)
      await sleep(10)
    }
  }

  /** Sends DELETE until there is a response. */
  async remove(upload) {
    upload.state = 'ending'
    for (let tries = 0; ; tries += 1) {
      try {
        const { status } = await this.#ask('DELETE', upload.url)
        // Gone: the response of an earlier attempt was lost.
        assert.ok(status === 204 || (status === 404 && tries > 0), `DELETE of ${upload.url}: ${status}`)
        upload.state = 'gone'
        return
      } catch (error) {
        await this.#endure(error)
      }
    }
  }

  /** Waits if the server is unreachable; any other error is thrown. */
  async #endure(error) {
    if (!(error instanceof Unanswered) || this.hasFailed()) throw error
    await sleep(this.delay())
  }
}
