// An application of which half of all answers are failures.

import { CUT, raw } from './receiver.js'

/**
 * Decides answers: each event fails zero, one or two times, by chance, so that on average every
 * second answer is a failure, and none is a success that the server would have to guess.
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
