// Server-sent events, read as a browser's EventSource reads them, but with any header.

import { setTimeout as sleep } from 'node:timers/promises'
import { until } from '../../clients/lib/tus.js'

/** A live event stream that reconnects and resumes. */
export class Listener {
  /** All events so far: `{ id, event, data, connection }`, `data` parsed. */
  events = []
  /** How often it was connected. */
  connections = 0
  #over = new AbortController()
  #done

  constructor(url, headers, lastId) {
    this.url = url
    this.headers = headers
    this.lastId = lastId
  }

  /** Listens until test `t` ends; resolves when it is connected. */
  static async open(t, caller, { lastId } = {}) {
    const listener = new Listener(`${caller.url}/events`, caller.headers, lastId)
    t.after(() => listener.close())
    listener.#done = listener.#run()
    await Promise.race([until(() => listener.connections > 0), listener.#done])
    return listener
  }

  async close() {
    this.#over.abort()
    await this.#done
  }

  async #run() {
    const { signal } = this.#over
    while (!signal.aborted) {
      try {
        const last = this.lastId === undefined ? {} : { 'Last-Event-ID': this.lastId }
        const response = await fetch(this.url, { headers: { ...this.headers, ...last }, signal })
        if (response.ok) {
          this.connections += 1
          await this.#read(response.body)
        } else if (response.status < 500) {
          throw new Refused(response.status, await response.text())
        }
      } catch (error) {
        if (error instanceof Refused) throw error
        // A connection that broke, or the end of the test.
      }
      if (!signal.aborted) await sleep(50)
    }
  }

  async #read(body) {
    let text = ''
    for await (const piece of body.pipeThrough(new TextDecoderStream())) {
      text += piece
      const blocks = text.split('\n\n')
      text = blocks.pop()
      for (const block of blocks) this.#take(block)
    }
  }

  #take(block) {
    const fields = {}
    for (const line of block.split('\n')) {
      const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? []
      if (name) fields[name] = name === 'data' && fields.data ? `${fields.data}\n${value}` : value
    }
    if (fields.id !== undefined) this.lastId = fields.id
    if (fields.data === undefined) return
    const { id, event } = fields
    this.events.push({ id, event, data: JSON.parse(fields.data), connection: this.connections })
  }

  /** The events of one job, in order. */
  of(requestId) {
    return this.events.filter(({ data }) => data.upload.request_id === requestId)
  }

  /** Their names, without progress. */
  story(requestId) {
    return this.of(requestId).map(({ event }) => event).filter((event) => event !== 'UploadProgress')
  }

  /** Waits for `event` of a job. */
  async heard(requestId, event) {
    await until(() => this.of(requestId).some((one) => one.event === event))
    return this.of(requestId).find((one) => one.event === event)
  }
}

class Refused extends Error {
  constructor(status, text) {
    super(`events were refused: ${status} ${text}`)
  }
}
