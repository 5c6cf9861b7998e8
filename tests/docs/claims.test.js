// Lists each sentence about a missing feature or an impossibility, with its proof.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { run } from '../hooks/lib/programs.js'
import { pages, read, withoutBlocks } from './lib/blocks.js'
import { CLAIMS, SAYS } from './lib/claims.js'
import { cleanEnv } from './lib/terminal.js'

/** The sentences, cells and headings of a page, without code and without the table of errors, which is the program's. */
async function sentences(page) {
  const prose = withoutBlocks(await read(page)).replace(/### Errors\n[^]*?\n#/, '#').replace(/`[^`\n]*`/g, '``').replaceAll('*', '')
  const paragraphs = prose.split(/\n\n|\n(?=\s*[-|#]|\s*\d+\. )/)
  return paragraphs.flatMap((text) => text.replace(/\s+/g, ' ').split(/(?<=[.!?:;]) | \| /))
}

async function prove(proof) {
  if (proof.file) {
    assert.ok((await read(proof.file)).includes(proof.text), `${proof.file} has no "${proof.text}"`)
  } else if (proof.args) {
    const { code, stderr } = await run(process.env.LANDFALL_BIN, ['config', 'check', '--offline', ...proof.args], { env: cleanEnv() })
    assert.equal(code, 2, proof.args.join(' '))
    assert.match(stderr, proof.pattern)
  } else {
    assert.ok(proof.reason)
  }
}

for (const page of await pages()) {
  test(`what ${page} says is not supported`, async () => {
    const claims = CLAIMS[page] ?? []
    const found = (await sentences(page)).filter((sentence) => SAYS.test(sentence))
    const fits = ([part], sentence) => sentence.includes(part)
    assert.deepEqual(found.filter((sentence) => !claims.some((claim) => fits(claim, sentence))), [], 'list it in lib/claims.js')
    assert.deepEqual(claims.filter((claim) => !found.some((sentence) => fits(claim, sentence))), [], 'no page says this')
    for (const [, proof] of claims) await prove(proof)
  })
}
