// Bytes to upload: random enough that a misplaced block shows, the same in every run.

import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'

export const MIB = 1024 * 1024

/** `size` bytes that depend on `seed` alone: a block-cipher key stream, which never repeats. */
export function bytes(size, seed = 1) {
  const key = createHash('sha256').update(`landfall ${seed}`).digest()
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16))
  return cipher.update(Buffer.alloc(size))
}

/** SHA-256 of a buffer, in hexadecimal. */
export function sha256(buffer) {
  return createHash('sha256').update(buffer).digest('hex')
}

/** SHA-256 of a file, in hexadecimal. */
export async function sha256OfFile(path) {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/** A folder that is removed when test `t` ends. */
export async function tempDir(t) {
  const dir = await mkdtemp(join(tmpdir(), 'landfall-source-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** Writes `bytes(size, seed)` to a file of test `t`. */
export async function sourceFile(t, size, { seed = 1, name = 'source.bin' } = {}) {
  const data = bytes(size, seed)
  const path = join(await tempDir(t), name)
  await writeFile(path, data)
  return { path, name, size, data, sha256: sha256(data) }
}

/**
 * Pseudo-random numbers below 1 (mulberry32). The seed is LANDFALL_TEST_SEED when set,
 * and is told to the reader of a failing test by `t`.
 */
export function randomNumbers(t) {
  let state = Number(process.env.LANDFALL_TEST_SEED ?? Date.now() % 2 ** 32) >>> 0
  t.diagnostic(`LANDFALL_TEST_SEED=${state}`)
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 15), z | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32
  }
}
