// gRPC hooks with a server in Python.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Landfall } from '../clients/lib/landfall.js'
import { tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { freePort, python, run, serve } from './lib/programs.js'
import { create } from './lib/start.js'

const PROTO = fileURLToPath(new URL('../../crates/hooks/proto', import.meta.url))
const SERVER = fileURLToPath(new URL('receivers/grpc_hooks.py', import.meta.url))

/** Starts the hook server, with stubs of our .proto; returns its address and output. */
async function startServer(t) {
  const stubs = await tempDir(t)
  const made = await run(python('python', 'grpcio'), [
    '-m', 'grpc_tools.protoc', `-I${PROTO}`, `--python_out=${stubs}`, `--grpc_python_out=${stubs}`,
    'hook.proto',
  ])
  assert.equal(made.code, 0, made.stderr)
  const port = await freePort()
  const lines = await serve(t, port, python('python', 'grpcio'), [SERVER, String(port), stubs])
  const messages = () => lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  return { address: `127.0.0.1:${port}`, messages }
}

test('gRPC: a server in Python rejects, changes and receives events', { timeout: 60_000 }, async (t) => {
  const { address, messages } = await startServer(t)
  const landfall = await Landfall.start(t, {
    args: [
      '--hooks-grpc', address,
      '--hooks-grpc-forward-headers', 'Authorization',
      '--hooks-enabled-events', 'pre-create,post-create,post-finish',
    ],
  })
  const headers = { Authorization: 'Bearer abc' }
  const refused = await create(landfall.endpoint, Buffer.from('MZ'), {
    meta: { filename: 'setup.exe' }, headers,
  })
  assert.equal(refused.status, 403)
  assert.equal(refused.text, 'no programs, please')
  assert.equal(refused.headers.get('X-Why'), 'exe')
  assert.deepEqual(await landfall.allInfos(), [])

  const made = await create(landfall.endpoint, Buffer.from('hello'), {
    meta: { filename: 'a.txt' }, headers,
  })
  assert.equal(made.status, 201)
  assert.equal(made.headers.get('X-Welcome'), 'by gRPC')
  assert.equal(landfall.idOf(made.url), 'from-python')
  assert.deepEqual((await landfall.info(made.url)).MetaData, { filename: 'a.txt', seen: 'yes' })

  await until(() => messages().some(({ type }) => type === 'post-finish'))
  assert.deepEqual(messages().map(({ type }) => type), [
    'pre-create', 'pre-create', 'post-create', 'post-finish',
  ])
  const [, call, , finish] = messages()
  assert.equal(call.metadata.authorization, 'Bearer abc')
  assert.equal(call.event.httpRequest.method, 'POST')
  assert.equal(call.event.upload.size, '5')
  const { upload } = finish.event
  assert.equal(upload.id, 'from-python')
  assert.equal(upload.offset, '5')
  assert.deepEqual(upload.metaData, { filename: 'a.txt', seen: 'yes' })
  assert.equal(upload.storage.Path, landfall.pathOf(made.url))
  assert.deepEqual(upload.labels, { team: 'red' })
  assert.match(finish.event.id, /^[0-9a-f]{32}$/)
  // Forwarded headers come with every event.
  assert.equal(finish.metadata.authorization, 'Bearer abc')
  assert.equal(finish.event.httpRequest.header.Authorization, 'Bearer abc')
})
