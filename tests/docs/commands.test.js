// The commands of the documentation do what their pages say.

import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { test } from 'node:test'
import { run } from '../hooks/lib/programs.js'
import { startMoto } from '../nodes/lib/services.js'
import { blocks, pages, read, ROOT } from './lib/blocks.js'
import { serveFromCheckout, TIMEOUT_MS } from './lib/checkout.js'
import { COMMANDS, installed, WITH_BUCKET } from './lib/pages.js'
import { calls, check } from './lib/record.js'
import { Terminals } from './lib/terminal.js'

const BUCKET = 'my-bucket'
const CONFIG = '/etc/landfall/landfall.toml'

test('each page with commands is listed', async () => {
  const found = []
  for (const page of await pages()) {
    if ((await blocks(page)).some(({ language }) => language === 'sh')) found.push(page)
    // Commands that are only indented would be overlooked.
    assert.doesNotMatch(await read(page), /^\n {4}(landfall |[A-Z_]+=)/m, page)
  }
  assert.deepEqual(found, Object.keys(COMMANDS).toSorted())
})

/** The environment variables of a user with a bucket. */
async function bucket(t) {
  const { endpoint, region, accessKey, secretKey } = await startMoto(t)
  assert.ok((await fetch(`${endpoint}/${BUCKET}`, { method: 'PUT' })).ok)
  return {
    AWS_ENDPOINT_URL: endpoint, AWS_REGION: region, AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey,
  }
}

for (const [page, list] of Object.entries(COMMANDS)) {
  test(`the commands of ${page}`, { timeout: TIMEOUT_MS }, async (t) => {
    const all = await blocks(page)
    const shell = all.filter(({ language }) => language === 'sh')
    const listed = list.filter(([begin]) => begin)
    assert.equal(shell.length, listed.length, `${page} has ${shell.length} blocks`)
    const terminals = await Terminals.open(t, WITH_BUCKET.includes(page) ? await bucket(t) : {})
    for (const name of ['uploads', 'backup', 'tusd-hooks']) await mkdir(`/srv/${name}`, { recursive: true })
    if (list[0][1].kind === 'run') await terminals.serve('landfall')

    for (const [begin, { kind, pattern, probe, count, action }] of list) {
      if (!begin) {
        await action(terminals)
        continue
      }
      const { text, line } = shell.shift()
      await t.test(`line ${line}: ${begin}`, async (t) => {
        assert.ok(text.startsWith(begin), text)
        if (kind === 'serve') {
          await terminals.serve(installed(text))
          await probe?.()
        } else if (kind === 'compile') {
          await serveFromCheckout(terminals, text)
        } else if (kind === 'run') {
          assert.match(await terminals.run(text), pattern)
        } else {
          const found = await calls(t, text)
          assert.equal(found.length, count, text)
          const files = { [CONFIG]: `${ROOT}packaging/landfall.toml` }
          for (const call of found) await check(call, files)
        }
      })
    }
  })
}

test('the second command of the README is what continuous integration runs', async () => {
  const [, { text }] = await blocks('README.md')
  const [command] = text.split(/ +#/)
  assert.match(await read('.ci/run'), new RegExp(`^exec ${command} "\\$@"$`, 'm'))
  const help = await run(`${ROOT}${command}`, ['--help'])
  assert.equal(help.code, 0, help.stderr)
})
