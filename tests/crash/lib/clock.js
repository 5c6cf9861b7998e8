// A clock of the program that a test can set.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { tempDir } from '../../clients/lib/source.js'

/** libfaketime, which `scripts/install-test-deps crash` installs. */
function library() {
  const places = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib']
  const found = places.map((place) => join(place, 'faketime/libfaketimeMT.so.1')).find((path) => existsSync(path))
  assert.ok(found, 'libfaketime is not installed')
  return found
}

export class Clock {
  /** Until when it was wrong, by `performance.now()`. */
  #wrongUntil = -Infinity

  static async create(t) {
    const clock = new Clock()
    clock.file = join(await tempDir(t), 'clock')
    await clock.set(0)
    clock.env = {
      LD_PRELOAD: library(),
      FAKETIME_TIMESTAMP_FILE: clock.file,
      FAKETIME_NO_CACHE: '1',
      // Timeouts use the monotonic clock, which cannot be set.
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    }
    return clock
  }

  /** Sets it to this many seconds before or after the real time. */
  async set(seconds) {
    if (seconds !== 0) this.#wrongUntil = Infinity
    await writeFile(this.file, `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}\n`)
    if (seconds === 0 && this.#wrongUntil === Infinity) this.#wrongUntil = performance.now()
  }

  /** Whether it was wrong at any time since, by `performance.now()`. */
  wasWrongSince(time) {
    return this.#wrongUntil >= time
  }
}
