// Command hooks in sh and Python, also together with other transports.

import assert from 'node:assert/strict'
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Landfall } from '../clients/lib/landfall.js'
import { tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { freePort, serve } from './lib/programs.js'
import { Receiver } from './lib/receiver.js'
import { TUS, create, head } from './lib/start.js'

/** Writes hooks, a map from event to script, into a directory of test `t`. */
async function hooks(t, scripts) {
  const dir = join(await tempDir(t), 'hooks')
  await mkdir(dir)
  for (const [event, script] of Object.entries(scripts)) {
    await writeFile(join(dir, event), script)
    await chmod(join(dir, event), 0o755)
  }
  return dir
}

test('command: sh receives events, Python decides', { timeout: 60_000 }, async (t) => {
  const dir = await hooks(t, {
    'pre-create': `#!/usr/bin/env python3
import json, sys
upload = json.load(sys.stdin)["Event"]["Upload"]
if upload["Size"] > 1000:
    answer = {"RejectUpload": True, "HTTPResponse": {"StatusCode": 413, "Body": "at most 1000 bytes"}}
else:
    answer = {"ChangeFileInfo": {"ID": "by-" + upload["MetaData"]["user"], "MetaData": {"kept": "this"}}}
json.dump(answer, sys.stdout)
`,
    'post-finish': `#!/bin/sh
echo "$TUS_ID $TUS_SIZE $TUS_OFFSET $(pwd)" >>seen
cat >>seen
`,
    'pre-terminate': `#!/bin/sh
echo '{"RejectTermination": true, "HTTPResponse": {"StatusCode": 423, "Body": "kept"}}'
`,
  })
  const landfall = await Landfall.start(t, {
    args: ['--hooks-dir', dir, '--hooks-enabled-events', 'pre-create,post-finish,pre-terminate'],
  })
  const meta = { user: 'ann' }
  const refused = await create(landfall.endpoint, Buffer.alloc(1001), { meta })
  assert.equal(refused.status, 413)
  assert.equal(refused.text, 'at most 1000 bytes')

  const { url } = await create(landfall.endpoint, Buffer.from('small'), { meta })
  assert.equal(landfall.idOf(url), 'by-ann')
  assert.deepEqual((await landfall.info(url)).MetaData, { kept: 'this' })
  const seen = async () => readFile(join(dir, 'seen'), 'utf8').catch(() => '')
  await until(async () => (await seen()).endsWith('}'))
  const [line, json] = (await seen()).split('\n')
  assert.equal(line, `by-ann 5 5 ${dir}`)
  assert.deepEqual(Object.keys(JSON.parse(json)), ['Type', 'Event'])

  const kept = await fetch(url, { method: 'DELETE', headers: TUS })
  assert.equal(kept.status, 423)
  assert.equal(await kept.text(), 'kept')
  assert.equal((await head(url)).status, 200)
})

test('command: a failed post-finish hook is retried', { timeout: 60_000 }, async (t) => {
  const dir = await hooks(t, {
    'post-finish': `#!/bin/sh
cat >/dev/null
echo "$TUS_ID" >>tries
[ "$(wc -l <tries)" -ge 3 ]
`,
  })
  const landfall = await Landfall.start(t, {
    args: ['--hooks-dir', dir, '--hooks-enabled-events', 'post-finish'],
  })
  const { url } = await create(landfall.endpoint, Buffer.from('x'))
  const id = landfall.idOf(url)
  await until(async () => {
    const tries = await readFile(join(dir, 'tries'), 'utf8').catch(() => '')
    return tries === `${id}\n`.repeat(3)
  })
})

test('several transports: the first rejection wins, changes accumulate', { timeout: 60_000 }, async (t) => {
  const dir = await hooks(t, {
    'pre-create': `#!/bin/sh
case $(cat) in
  *'"color":"black"'*) echo '{"RejectUpload": true, "HTTPResponse": {"StatusCode": 403, "Body": "by command"}}' ;;
  *) echo '{"ChangeFileInfo": {"MetaData": {"color": "blue"}, "Labels": {"a": "1", "b": "1"}}}' ;;
esac
`,
  })
  const receiver = await Receiver.start(t, ({ hook, message }) => {
    if (hook !== 'pre-create') return undefined
    const { MetaData } = message.Event.Upload
    return { ChangeFileInfo: { MetaData: { ...MetaData, shade: 'dark' }, Labels: { b: '2' } } }
  })
  const landfall = await Landfall.start(t, {
    args: [
      '--hooks-dir', dir, '--hooks-http', receiver.url,
      '--hooks-enabled-events', 'dir:pre-create,pre-create,post-finish',
    ],
  })
  const refused = await create(landfall.endpoint, Buffer.from('x'), { meta: { color: 'black' } })
  assert.deepEqual([refused.status, refused.text], [403, 'by command'])
  assert.equal(receiver.deliveries.length, 0, 'transports after a rejection are not called')

  const { url } = await create(landfall.endpoint, Buffer.from('x'), { meta: { color: 'red' } })
  assert.deepEqual((await landfall.info(url)).MetaData, { color: 'blue', shade: 'dark' })
  await until(() => receiver.of('post-finish').length === 1)
  const [{ message }] = receiver.of('post-finish')
  assert.deepEqual(message.Event.Upload.Labels, { a: '1', b: '2' })
})

test('several transports: headers in events are for those that name them', { timeout: 60_000 }, async (t) => {
  const save = '#!/bin/sh\ncat >"$LANDFALL_HOOK.json.new"; mv "$LANDFALL_HOOK.json.new" "$LANDFALL_HOOK.json"\n'
  const receiver = await Receiver.start(t)
  const sent = { Authorization: 'Bearer s3cret', 'X-Tenant': 'seven' }
  for (const [more, expected] of [[[], undefined], [['--compat', 'tusd'], sent.Authorization]]) {
    receiver.deliveries.length = 0
    const dir = await hooks(t, { 'post-create': save, 'post-finish': save })
    const landfall = await Landfall.start(t, {
      args: [
        '--hooks-dir', dir, '--hooks-http', receiver.url, '--hooks-http-forward-headers', 'authorization,X-Tenant',
        '--hooks-enabled-events', 'post-create,post-finish', ...more,
      ],
    })
    await create(landfall.endpoint, Buffer.from('x'), { headers: sent })
    await until(() => receiver.of('post-finish').length === 1)
    for (const { headers: forwarded, message } of receiver.deliveries) {
      assert.equal(forwarded.authorization, sent.Authorization)
      assert.equal(forwarded['x-tenant'], 'seven')
      assert.deepEqual(message.HTTPRequest.Header['X-Tenant'], ['seven'])
      assert.deepEqual(message.Event.HTTPRequest.Header.Authorization, [sent.Authorization])
    }
    for (const event of ['post-create', 'post-finish']) {
      const saved = () => readFile(join(dir, `${event}.json`), 'utf8').catch(() => '')
      await until(async () => (await saved()) !== '')
      const { Header } = JSON.parse(await saved()).Event.HTTPRequest
      assert.equal(Header.Authorization?.[0], expected, event)
    }
  }
})

test('command: the first process of a container waits for what commands leave behind', { timeout: 60_000 }, async (t) => {
  const dir = await hooks(t, {
    'post-finish': `#!/bin/sh
sh -c 'while [ ! -e go ]; do sleep 0.05; done; exit 3' >/dev/null &
echo $! >child
`,
  })
  const uploads = await tempDir(t)
  const port = await freePort()
  const args = ['-port', String(port), '-upload-dir', uploads, '-hooks-dir', dir, '-hooks-enabled-events', 'post-finish']
  const namespaces = ['--user', '--map-root-user', '--pid', '--fork', '--mount-proc', '--kill-child']
  const program = [process.env.LANDFALL_BIN, ...args]
  await serve(t, port, 'unshare', [...namespaces, ...program], {
    env: { PATH: process.env.PATH, LANDFALL_HOST: '127.0.0.1' },
  })
  await create(`http://127.0.0.1:${port}/files/`, Buffer.from('x'))
  const text = (file) => readFile(file, 'utf8').catch(() => '')
  await until(async () => (await text(join(dir, 'child'))).endsWith('\n'))
  // Its number outside of the namespace is found by its number inside.
  const inside = (await text(join(dir, 'child'))).trim()
  const processes = async () => {
    const all = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name))
    const states = await Promise.all(all.map((name) => text(`/proc/${name}/status`)))
    return states.filter((state) => new RegExp(`^NSpid:.*\\t${inside}$`, 'm').test(state) && /^Name:\tsh$/m.test(state))
  }
  assert.equal((await processes()).length, 1)
  await writeFile(join(dir, 'go'), '')
  await until(async () => (await processes()).length === 0)
})
