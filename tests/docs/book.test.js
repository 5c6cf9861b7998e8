// The pages form a book, and links lead to files and headings that exist.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, readdir } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { homedir } from 'node:os'
import { test } from 'node:test'
import { tempDir } from '../clients/lib/source.js'
import { run } from '../hooks/lib/programs.js'
import { find } from '../nodes/lib/services.js'
import { pages, read, ROOT, withoutBlocks } from './lib/blocks.js'

// Pages of the book name other files of the repository by their address.
const REPOSITORY = /^https:\/\/github\.com\/landfall-rs\/landfall\/(?:blob|tree)\/main\//

/** The anchors of a page as GitHub and mdBook make them. */
function anchors(text) {
  const seen = new Map()
  const found = new Set()
  for (const [, heading] of withoutBlocks(text).matchAll(/^#{1,6} (.+)$/gm)) {
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
  const files = stdout.trim().split('\n')
  const texts = new Map(await Promise.all(files.map(async (file) => [file, await read(file)])))
  const broken = []
  let count = 0
  for (const [page, text] of texts) {
    const prose = withoutBlocks(text).replace(/`[^`\n]*`/g, '')
    for (const [, link] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      const inRepository = REPOSITORY.test(link)
      if (!inRepository && /^[a-z]+:/.test(link)) continue
      count += 1
      const [path, anchor] = link.replace(REPOSITORY, '').split('#')
      const target = path ? normalize(inRepository ? path : join(dirname(page), path)) : page
      const isThere = existsSync(join(ROOT, target))
      const hasAnchor = !anchor || (texts.has(target) && anchors(texts.get(target)).has(anchor))
      if (!isThere || !hasAnchor) broken.push(`${page}: ${link}`)
    }
  }
  assert.deepEqual(broken, [])
  assert.ok(count > 100, `${count} links`)
})

test('the summary lists each page once, and not the README', async () => {
  const listed = [...(await read('docs/SUMMARY.md')).matchAll(/\]\(([^)]+)\)/g)].map(([, path]) => `docs/${path}`)
  const written = (await pages()).filter((page) => !['README.md', 'docs/SUMMARY.md'].includes(page))
  assert.deepEqual(listed.toSorted(), written)
})

// Takes a minute to install.
const IS_LONG = Boolean(process.env.LANDFALL_LONG)
if (IS_LONG) test('mdBook builds the book without warnings, and its links work', { timeout: 60_000 }, async (t) => {
  const out = await tempDir(t)
  const cargo = process.env.CARGO_HOME || join(homedir(), '.cargo')
  const built = await run(find('mdbook', join(cargo, 'bin')), ['build', '--dest-dir', out, ROOT])
  assert.equal(built.code, 0, built.stderr)
  assert.doesNotMatch(`${built.stdout}${built.stderr}`, /\b(WARN|ERROR)\b/)

  const names = (await readdir(out)).filter((name) => name.endsWith('.html'))
  const texts = new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(out, name), 'utf8')])))
  const ids = new Map([...texts].map(([name, text]) => [name, new Set(text.match(/(?<=\bid=")[^"]*/g))]))
  const broken = []
  let count = 0
  for (const [name, text] of texts) {
    // One page has all the others, one is served at any address, and one is the list of pages.
    if (['print.html', '404.html', 'toc.html'].includes(name)) continue
    for (const [, link] of text.split('<main>')[1].split('</main>')[0].matchAll(/<a [^>]*\bhref="([^"]*)"/g)) {
      if (/^[a-z]+:/.test(link)) continue
      count += 1
      const [path, anchor] = link.split('#')
      const isThere = existsSync(join(out, path))
      const hasAnchor = !anchor || ids.get(path || name)?.has(decodeURIComponent(anchor))
      if (!isThere || !hasAnchor) broken.push(`${name}: ${link}`)
    }
  }
  assert.deepEqual(broken, [])
  assert.ok(count > 200, `${count} links`)
})
