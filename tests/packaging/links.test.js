// Relative links of the documentation lead to files and headings that exist.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { run } from '../hooks/lib/programs.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** The anchors of a page as GitHub and mdBook make them. */
function anchors(text) {
  const seen = new Map()
  const found = new Set()
  for (const [, heading] of text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#{1,6} (.+)$/gm)) {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const name = plain.replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-')
    const count = seen.get(name) ?? 0
    seen.set(name, count + 1)
    found.add(count ? `${name}-${count}` : name)
  }
  return found
}

test('links lead somewhere', async () => {
  const { stdout } = await run('git', ['ls-files', '*.md'], { cwd: ROOT })
  const pages = stdout.trim().split('\n')
  const texts = new Map(await Promise.all(pages.map(async (page) => [page, await readFile(join(ROOT, page), 'utf8')])))
  const broken = []
  let count = 0
  for (const [page, text] of texts) {
    const prose = text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '')
    for (const [, link] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      count += 1
      const [path, anchor] = link.split('#')
      const target = path ? normalize(join(dirname(page), path)) : page
      const isThere = existsSync(join(ROOT, target))
      const hasAnchor = !anchor || (texts.has(target) && anchors(texts.get(target)).has(anchor))
      if (!isThere || !hasAnchor) broken.push(`${page}: ${link}`)
    }
  }
  assert.deepEqual(broken, [])
  assert.ok(count > 100, `${count} links`)
})
