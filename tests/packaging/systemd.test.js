// The systemd unit is hardened.

import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { tempDir } from '../clients/lib/source.js'
import { run } from '../hooks/lib/programs.js'

const UNIT = fileURLToPath(new URL('../../packaging/landfall.service', import.meta.url))

test('the exposure is at most 2.0', async () => {
  const args = ['security', '--offline=yes', '--no-pager', '--threshold=20', UNIT]
  const done = await run('systemd-analyze', args)
  assert.equal(done.code, 0, `${done.stdout}\n${done.stderr}`)
  assert.match(done.stdout, /Overall exposure level for landfall\.service: [01]\.\d OK/)
})

test('a unit without its restrictions is found', async (t) => {
  const path = `${await tempDir(t)}/landfall.service`
  const text = await readFile(UNIT, 'utf8')
  await writeFile(path, text.replace(/^(Protect|Private|Restrict|Capability|SystemCall).*$/gm, ''))
  const done = await run('systemd-analyze', ['security', '--offline=yes', '--no-pager', '--threshold=20', path])
  assert.notEqual(done.code, 0)
})

test('systemd accepts the units', async (t) => {
  const dir = await tempDir(t)
  const verify = async (edit = (text) => text) => {
    for (const unit of ['landfall.service', 'landfall.socket']) {
      const text = await readFile(UNIT.replace('landfall.service', unit), 'utf8')
      await writeFile(`${dir}/${unit}`, edit(text.replace('/usr/bin/landfall', process.env.LANDFALL_BIN)))
    }
    const args = ['verify', '--man=no', `${dir}/landfall.service`, `${dir}/landfall.socket`]
    const { code, stdout, stderr } = await run('systemd-analyze', args)
    return `${code ? `exit code ${code}\n` : ''}${stdout}${stderr}`
  }
  assert.equal(await verify(), '')
  assert.match(await verify((text) => text.replace('ProtectHome', 'ProtectHom')), /ProtectHom/)
  assert.match(await verify((text) => text.replace('ListenStream', 'ListenStrem')), /ListenStrem/)
})
