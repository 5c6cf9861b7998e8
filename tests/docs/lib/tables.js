// Reads the tables of the documentation.

import assert from 'node:assert/strict'
import { read } from './blocks.js'

/** The rows of the tables below a heading, the heads among them, as arrays of cells. */
export async function rows(page, heading) {
  const text = await read(page)
  assert.ok(text.includes(`\n${heading}\n`), `${page} has no "${heading}"`)
  const level = heading.split(' ')[0]
  const section = text.split(`\n${heading}\n`)[1].split(new RegExp(`^#{1,${level.length}} `, 'm'))[0]
  const lines = section.split('\n').filter((line) => line.startsWith('|') && !/^[-| :]+$/.test(line))
  return lines.map((line) => line.split(/ *\| */).slice(1, -1))
}
