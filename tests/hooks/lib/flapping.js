// An application that fails half of the time.

import { CUT, raw } from './receiver.js'

/**
 * Chooses responses: each event fails zero, one or two times at random, so that on average every
 * second response is a failure, and each success is an explicit response.
 */
export function flapping(random) {
  const left = new Map()
  const failures = [
    () => raw(500, 'try again'),
    () => raw(503, 'try again'),
    () => raw(429, 'too fast'),
    () => CUT,
  ]
  return ({ id }) => {
    if (!left.has(id)) left.set(id, Math.floor(random() * 3))
    const failing = left.get(id)
    if (failing === 0) return undefined
    left.set(id, failing - 1)
    return failures[Math.floor(random() * failures.length)]()
  }
}
