// A denial that does not arrive whole is a failed hook, never consent: FastAPI behind nginx.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startNginx } from './lib/nginx.js'
import { freePort, python, serve } from './lib/programs.js'
import { TUS, append, create, head, withHttpHooks } from './lib/start.js'

const RECEIVERS = fileURLToPath(new URL('receivers', import.meta.url))

const WAYS = ['cut', 'cut without a type', 'array', 'not a number', 'wide', 'after a warning', 'warning alone', 'compressed', 'dying']

/** Starts the receiver; returns its URL behind nginx. */
async function receiver(t) {
  const port = await freePort()
  const args = ['--port', String(port), '--app-dir', RECEIVERS, 'unclear:app']
  await serve(t, port, python('uvicorn'), args)
  return startNginx(t, `http://127.0.0.1:${port}/hooks`)
}

const HOOKS = 'pre-access,pre-create,pre-finish,pre-terminate'
const ONCE = ['--hooks-http-retry', '1']

test('a denial that is not understood has no effect but a failure', { timeout: 180_000 }, async (t) => {
  const url = await receiver(t)
  for (const format of ['auto', 'v2']) {
    const landfall = await withHttpHooks(t, url, HOOKS, [...ONCE, '--hooks-format', format])
    for (const how of WAYS) {
      const by = (when) => ({ 'X-How': how, 'X-When': when })
      for (const when of ['pre-access', 'pre-create', 'pre-finish']) {
        const { status, text } = await create(landfall.endpoint, Buffer.from('x'), { headers: by(when) })
        assert.equal(status, 500, `${format} ${when} ${how}: ${text}`)
      }
      assert.deepEqual(await landfall.allInfos(), [], how)

      const { url: upload } = await create(landfall.endpoint, Buffer.from('x'))
      const removed = await fetch(upload, { method: 'DELETE', headers: { ...TUS, ...by('pre-terminate') } })
      assert.equal(removed.status, 500, `${format} ${how}`)
      assert.equal((await head(upload)).status, 200)
      const again = await fetch(upload, { method: 'DELETE', headers: TUS })
      assert.equal(again.status, 204)
    }
    const marked = { 'X-How': 'marked', 'X-When': 'pre-create' }
    assert.equal((await create(landfall.endpoint, Buffer.from('x'), { headers: marked })).status, 400)
  }
})

test('the failure mode decides about it', { timeout: 60_000 }, async (t) => {
  const url = await receiver(t)
  const landfall = await withHttpHooks(t, url, HOOKS, [...ONCE, '--hooks-failure-mode', 'allow'])
  for (const how of WAYS) {
    const headers = { 'X-How': how, 'X-When': 'pre-create' }
    const { status, url: upload } = await create(landfall.endpoint, Buffer.from('x'), { headers, length: 2 })
    assert.equal(status, 201, how)
    assert.equal((await append(upload, 1, Buffer.from('y'))).status, 204)
  }
  assert.match(landfall.log, /blocking hook failed, request allowed by failure mode/)
})
