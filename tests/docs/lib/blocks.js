// The pages of the documentation, and their code blocks.

import { readFile, readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/** The README and all pages below docs/, as paths from the root. */
export async function pages() {
  const names = await readdir(`${ROOT}docs`)
  return ['README.md', ...names.filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`).toSorted()]
}

export const read = (path) => readFile(`${ROOT}${path}`, 'utf8')

const FENCE = /^([ \t]*)```(\S*)[^\n]*\n([\s\S]*?)^[ \t]*```[ \t]*$/gm

/** The code blocks of a page, without the indentation of a list: `{ language, text, line }`. */
export async function blocks(page) {
  const text = await read(page)
  return [...text.matchAll(FENCE)].map(({ 1: indent, 2: language, 3: body, index }) => ({
    language,
    text: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
    line: text.slice(0, index).split('\n').length,
  }))
}

/** A page without its code blocks. */
export const withoutBlocks = (text) => text.replaceAll(FENCE, '')
