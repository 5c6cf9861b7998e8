// Uploads and downloads with each server, over connections that break.

import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import { FaultProxy } from '../clients/lib/proxy.js'
import { MIB, bytes, sha256, sha256OfFile, tempDir } from '../clients/lib/source.js'
import { run, start } from './lib/program.js'
import { SERVERS, startServer } from './lib/servers.js'

// Sent by a program that was killed, and stored by no server: the buffers of the connection.
const SENT_TWICE = 4 * MIB

async function prepare(t, server, size = 12 * MIB) {
  const home = await tempDir(t)
  const data = bytes(size)
  await writeFile(join(home, 'a.bin'), data)
  const { folder, ...started } = await startServer(t, server)
  return { home, data, digest: sha256(data), assertStored: checker(home, folder, server), ...started }
}

/** Returns a function that checks that a server has the bytes at `url`. */
const checker = (home, folder, server) => async (url, digest, size) => {
  const head = await fetch(url, { method: 'HEAD', headers: { 'Tus-Resumable': '1.0.0' } })
  assert.equal(Number(head.headers.get('Upload-Offset')), size)
  if (!server.hasDownloads) {
    assert.equal(await sha256OfFile(join(folder, basename(url))), digest)
    return
  }
  await run(home, ['download', url, '-o', 'downloaded', '--no-resume'])
  assert.equal(await sha256OfFile(join(home, 'downloaded')), digest)
}

for (const server of SERVERS) {
  describe(server.name, () => {
    test('a file, whole, in pieces and with a checksum', async (t) => {
      const { home, endpoint, digest, data, assertStored } = await prepare(t, server)
      for (const flags of [[], ['--chunk-size', '5MiB'], ...(server.hasChecksum ? [['--checksum', 'sha1']] : [])]) {
        const { completed } = await run(home, ['upload', 'a.bin', endpoint, ...flags])
        await assertStored(completed.url, digest, data.length)
      }
      if (server.hasChecksum) return
      const { code, events } = await start(home, ['upload', 'a.bin', endpoint, '--checksum', 'sha1']).ended()
      assert.equal(code, 1)
      assert.match(events.find(({ event }) => event === 'failed').error, /^not supported by the server: checksums/)
    })

    test('parts, or one upload where the server cannot concatenate', async (t) => {
      const { home, endpoint, digest, data, assertStored } = await prepare(t, server)
      const { completed, events } = await run(home, ['upload', 'a.bin', endpoint, '--concat', '3'])
      const created = events.filter(({ event }) => event === 'created').length
      if (server.hasConcatenation) assert.ok(created >= 3, `${created} uploads`)
      await assertStored(completed.url, digest, data.length)
    })

    test('a folder and standard input', async (t) => {
      const { home, endpoint, assertStored } = await prepare(t, server)
      await mkdir(join(home, 'album'))
      for (let number = 0; number < 25; number += 1) {
        await writeFile(join(home, 'album', `${number}.txt`), bytes(1000 * number, number))
      }
      const { events } = await run(home, ['upload', 'album', endpoint])
      const completed = events.filter(({ event }) => event === 'completed')
      assert.equal(completed.length, 25)
      const one = completed.find(({ file }) => file === 'album/7.txt')
      await assertStored(one.url, sha256(bytes(7000, 7)), 7000)

      const input = bytes(9 * MIB + 1, 2)
      const flags = ['--name', 'b.bin', '--size', String(input.length)]
      const uploaded = await run(home, ['upload', '-', endpoint, ...flags], { input })
      await assertStored(uploaded.completed.url, sha256(input), input.length)
    })

    test('connections that break', async (t) => {
      const { home, port, endpoint, digest, data, assertStored } = await prepare(t, server)
      const proxy = await FaultProxy.start(t, { port, endpoint })
      let faults = 0
      proxy.failEach(() => ((faults += 1) <= 6 ? { bytes: 1.5 * MIB, kind: 'reset' } : null))
      const { completed, events } = await run(home, ['upload', 'a.bin', proxy.endpoint])
      assert.ok(proxy.faults >= 5, `${proxy.faults} faults`)
      assert.ok(events.some(({ event }) => event === 'retrying'))
      const url = new URL(completed.url)
      url.port = String(port)
      await assertStored(url.href, digest, data.length)
    })

    for (const signal of ['SIGINT', 'SIGKILL']) {
      test(`a program that ends by ${signal}`, async (t) => {
        const { home, port, endpoint, digest, data, assertStored } = await prepare(t, server)
        const proxy = await FaultProxy.start(t, { port, endpoint })
        const args = ['upload', 'a.bin', proxy.endpoint]
        const first = start(home, [...args, '--limit', '6MiB'])
        await first.reached((event) => event.event === 'progress' && event.bytes > 5 * MIB)
        first.kill(signal)
        assert.equal((await first.ended()).code, signal === 'SIGINT' ? 130 : null)

        const { completed } = await run(home, args)
        assert.ok(completed.resumed_from > 0)
        assert.ok(proxy.passed < data.length + SENT_TWICE, `${proxy.passed} bytes`)
        const url = new URL(completed.url)
        url.port = String(port)
        await assertStored(url.href, digest, data.length)
      })
    }
  })
}
