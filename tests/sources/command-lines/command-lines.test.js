// tusd's command lines as people write them, with the real server in tusd's place: it starts, and a minimal client
// uploads a file. What it cannot do, it says before it starts.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createServer, request } from 'node:http'
import { request as secureRequest } from 'node:https'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { createCertificate } from '../../clients/lib/certificate.js'
import { freePorts, startAzurite, startGcs, startMoto } from '../../nodes/lib/services.js'

const START_MS = 120_000

/** Every flag of tusd 2.10 with its default. */
const FLAGS = (await readFile(new URL('../../../crates/server/tests/it/tusd-flags.txt', import.meta.url), 'utf8'))
  .split('\n')
  .filter((line) => line && !line.startsWith('#'))
  .map((line) => {
    const at = line.indexOf('=')
    return [line.slice(0, at), line.slice(at + 1)]
  })

/** Words of a shell; none of the lines here needs quotes. */
const words = (line) => line.trim().split(/\s+/)

const running = new Set()
process.on('exit', () => { for (const child of running) child.kill('SIGKILL') })

/** Runs the server in a directory of its own, as tusd's users do. Gives what it wrote, also after its end. */
async function run(t, args, { env = {} } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'landfall-command-lines-'))
  const inherited = Object.entries(process.env).filter(([name]) => !/^(LANDFALL|AWS)_/.test(name))
  const child = spawn(process.env.LANDFALL_BIN, args, {
    cwd: directory,
    env: { ...Object.fromEntries(inherited), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  const lines = []
  const ended = new Promise((resolve) => {
    child.once('close', (code) => {
      running.delete(child)
      resolve(code)
    })
  })
  const started = new Promise((resolve) => {
    for (const output of [child.stdout, child.stderr]) {
      createInterface({ input: output }).on('line', (line) => {
        lines.push(line)
        // What scripts around tusd look for.
        const url = /You can now upload files to: (https?:[^\s"]+)/.exec(line)?.[1]
        if (url) resolve(url)
      })
    }
    ended.then(() => resolve(null))
  })
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
    await rm(directory, { recursive: true, force: true })
  })
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
  }
  return { directory, lines, started, ended, stop }
}

/** One request of a client that knows tus and nothing else. */
function ask(method, url, { headers = {}, body, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const send = url.startsWith('https:') ? secureRequest : request
    const sent = send(url, { method, headers: { 'Tus-Resumable': '1.0.0', ...headers }, rejectUnauthorized: false, agent: false, ...options })
    sent.once('error', reject)
    sent.once('response', (response) => {
      const chunks = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.once('error', reject)
      response.once('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }))
    })
    sent.end(body)
  })
}

async function upload(endpoint, options = {}) {
  const created = await ask('POST', endpoint, { headers: { 'Upload-Length': '5', 'Upload-Metadata': 'filename YS50eHQ=' }, ...options })
  assert.equal(created.status, 201, created.body.toString())
  const { location } = created.headers
  const path = new URL(location, endpoint).pathname
  const url = new URL(path, endpoint).href
  const sent = await ask('PATCH', url, {
    headers: { 'Upload-Offset': '0', 'Content-Type': 'application/offset+octet-stream' },
    body: 'hello',
    ...options,
  })
  assert.equal(sent.status, 204, sent.body.toString())
  const found = await ask('HEAD', url, options)
  assert.deepEqual([found.status, found.headers['upload-offset']], [200, '5'])
  return path.split('/').at(-1)
}

async function start(t, args, options) {
  const server = await run(t, args, options)
  const timer = setTimeout(() => server.stop(), START_MS)
  const url = await server.started
  clearTimeout(timer)
  assert.ok(url, `${args.join(' ')}\n${server.lines.join('\n')}`)
  server.url = url.replace(/\/\/(\[::\]|0\.0\.0\.0)/, '//127.0.0.1')
  return server
}

async function uploads(t, args, options) {
  const server = await start(t, args, options)
  server.id = await upload(server.url)
  return server
}

test('tusd 0.x: -dir ./data, and a working directory of its own', { timeout: START_MS }, async (t) => {
  const server = await uploads(t, words('-port 0 -dir ./data'))
  const names = await readdir(join(server.directory, 'data'))
  assert.ok(names.includes(server.id) && names.includes(`${server.id}.info`), `${names}`)
})

test('the lines of compose files, units and Dockerfiles', { timeout: 4 * START_MS }, async (t) => {
  for (const line of [
    '',
    '-upload-dir ./uploads -base-path /uploads/ -behind-proxy -verbose=false',
    '-upload-dir=./data -max-size=1073741824 -host=0.0.0.0 -expose-metrics false',
    '--upload-dir ./data --behind-proxy --hooks-http http://127.0.0.1:9 --hooks-enabled-events post-finish --hooks-http-forward-headers Authorization,Cookie',
    '-behind-proxy=true -cors-allow-origin ^https://app\\.example\\.com$ -cors-allow-credentials -cors-allow-headers X-Tenant',
    '-disable-download -disable-termination -show-greeting=false -network-timeout=30s -shutdown-timeout=5s',
    '-log-format json -progress-hooks-interval 5s -acquire-lock-timeout 5s',
    // tusd 1.
    '-timeout 6000 -hooks-http http://127.0.0.1:9 -hooks-http-retry 5 -hooks-http-backoff 2 -hooks-enabled-events post-finish',
  ]) {
    for (const compat of ['', '-compat=tusd']) {
      await t.test(`tusd ${line} ${compat}`, async (t) => {
        await uploads(t, words(`-port=0 ${compat} ${line}`))
      })
    }
  }
})

test('hooks in the directory of the image', { timeout: START_MS }, async (t) => {
  const hooks = await mkdtemp(join(tmpdir(), 'landfall-hooks-'))
  t.after(() => rm(hooks, { recursive: true }))
  await uploads(t, words(`-port 0 --hooks-dir ${hooks}`))
})

test("-s3-bucket with AWS's variables, as in tusd's guide", { timeout: 2 * START_MS }, async (t) => {
  const moto = await startMoto(t)
  const env = { AWS_ACCESS_KEY_ID: moto.accessKey, AWS_SECRET_ACCESS_KEY: moto.secretKey, AWS_REGION: moto.region }
  for (const line of [
    `-s3-bucket=${moto.bucket} -s3-endpoint=${moto.endpoint}`,
    `-s3-bucket ${moto.bucket} -s3-endpoint ${moto.endpoint} -s3-object-prefix a/b -s3-disable-ssl -s3-disable-content-hashes -s3-part-size 6291456 -s3-log-api-calls`,
  ]) {
    const server = await uploads(t, words(`-port 0 ${line}`), { env })
    assert.ok(server.lines.some((text) => /S3 endpoint and bucket for storage/.test(text)))
    await server.stop()
  }
})

test('every flag at its default, on one line', { timeout: START_MS }, async (t) => {
  const args = FLAGS.filter(([name]) => name !== 'version' && name !== 'port').map(([name, value]) => `-${name}=${value}`)
  assert.equal(args.length, 77)
  const server = await uploads(t, ['-compat=tusd', '-port=0', ...args])
  // Not silently: an unset variable would look the same.
  assert.ok(server.lines.some((line) => line.includes('--hooks-http: is empty')), server.lines.join('\n'))
  const version = await run(t, ['-version=true'])
  assert.equal(await version.ended, 0)
  assert.deepEqual(version.lines.map((line) => line.split(':')[0]), ['Version', 'Commit', 'Date'])
  const plain = await start(t, ['-port=0', '-version=false'])
  await upload(plain.url)
})

/** A second value of each flag, with what it needs. `{bucket}` and so on are filled in by the test. */
const OTHERS = {
  host: '-host=127.0.0.1',
  port: '-port={port}',
  'base-path': '-base-path=/uploads',
  'behind-proxy': '-behind-proxy',
  'enable-h2c': '-enable-h2c',
  'tls-certificate': '-tls-certificate={certificate} -tls-key={key}',
  'tls-key': '-tls-key={key} -tls-certificate={certificate}',
  'tls-mode': '-tls-mode=tls13 -tls-certificate={certificate} -tls-key={key}',
  'max-size': '-max-size=1000',
  'disable-download': '-disable-download',
  'disable-termination': '-disable-termination=true',
  'disable-concatenation': '-disable-concatenation=1',
  'enable-experimental-protocol': '-enable-experimental-protocol',
  'disable-cors': '-disable-cors',
  'cors-allow-origin': '-cors-allow-origin=^https://app\\.example$',
  'cors-allow-credentials': '-cors-allow-credentials -cors-allow-origin=^https://app\\.example$',
  'cors-allow-methods': '-cors-allow-methods=PUT',
  'cors-allow-headers': '-cors-allow-headers=X-A,X-B',
  'cors-expose-headers': '-cors-expose-headers=X-C',
  'cors-max-age': '-cors-max-age=60',
  'upload-dir': '-upload-dir=./elsewhere',
  'dir-perms': '-dir-perms=0700',
  'file-perms': '-file-perms=600',
  'filelock-holder-poll-interval': '-filelock-holder-poll-interval=1s',
  'filelock-acquirer-poll-interval': '-filelock-acquirer-poll-interval=1s',
  's3-bucket': '{s3}',
  's3-object-prefix': '{s3} -s3-object-prefix=c/',
  's3-endpoint': '{s3}',
  's3-part-size': '{s3} -s3-part-size=10485760',
  's3-min-part-size': '{s3} -s3-min-part-size=6291456',
  's3-max-buffered-parts': '{s3} -s3-max-buffered-parts=5',
  's3-concurrent-part-uploads': '{s3} -s3-concurrent-part-uploads=3',
  's3-disable-content-hashes': '{s3} -s3-disable-content-hashes',
  's3-disable-ssl': '{s3} -s3-disable-ssl',
  's3-log-api-calls': '{s3} -s3-log-api-calls',
  'gcs-bucket': '{gcs}',
  'gcs-object-prefix': '{gcs} -gcs-object-prefix=incoming',
  'gcs-endpoint': '{gcs} -gcs-endpoint={google}/storage/v1/',
  'azure-storage': '{azure}',
  'azure-container-access-type': '{azure} -azure-container-access-type=blob',
  'azure-blob-access-tier': '{azure} -azure-blob-access-tier=cool',
  'azure-object-prefix': '{azure} -azure-object-prefix=incoming',
  'azure-endpoint': '{azure}',
  'hooks-enabled-events': '-hooks-dir={hooks} -hooks-enabled-events=pre-create,post-finish',
  'progress-hooks-interval': '-hooks-dir={hooks} -progress-hooks-interval=250ms',
  'hooks-dir': '-hooks-dir={hooks}',
  'hooks-http': '-hooks-http={receiver}',
  'hooks-http-forward-headers': '-hooks-http={receiver} -hooks-http-forward-headers=Authorization,Cookie',
  'hooks-http-retry': '-hooks-http={receiver} -hooks-http-retry=1',
  'hooks-http-backoff': '-hooks-http={receiver} -hooks-http-backoff=100ms',
  'hooks-http-timeout': '-hooks-http={receiver} -hooks-http-timeout=5s',
  'hooks-http-size-limit': '-hooks-http={receiver} -hooks-http-size-limit=10000',
  'hooks-http-skip-verify': '-hooks-http={receiver} -hooks-http-skip-verify',
  'hooks-grpc': '{grpc}',
  'hooks-grpc-retry': '{grpc} -hooks-grpc-retry=1',
  'hooks-grpc-backoff': '{grpc} -hooks-grpc-backoff=100ms',
  'hooks-grpc-secure': '{grpc} -hooks-grpc-secure -hooks-grpc-server-tls-certificate={certificate}',
  'hooks-grpc-server-tls-certificate': '{grpc} -hooks-grpc-secure -hooks-grpc-server-tls-certificate={certificate}',
  'hooks-grpc-client-tls-certificate':
    '{grpc} -hooks-grpc-secure -hooks-grpc-server-tls-certificate={certificate} -hooks-grpc-client-tls-certificate={certificate} -hooks-grpc-client-tls-key={key}',
  'hooks-grpc-client-tls-key':
    '{grpc} -hooks-grpc-secure -hooks-grpc-server-tls-certificate={certificate} -hooks-grpc-client-tls-certificate={certificate} -hooks-grpc-client-tls-key={key}',
  'hooks-grpc-forward-headers': '{grpc} -hooks-grpc-forward-headers=Authorization',
  'expose-metrics': '-expose-metrics=false',
  'metrics-path': '-metrics-path=/prometheus',
  'show-greeting': '-show-greeting=false',
  verbose: '-verbose=false',
  'log-format': '-log-format=json',
  'network-timeout': '-network-timeout=30s',
  'shutdown-timeout': '-shutdown-timeout=1s',
  'acquire-lock-timeout': '-acquire-lock-timeout=2s',
  'request-completion-timeout': '-request-completion-timeout=1s',
}

/** What ends the start, and what the reason contains. */
const REFUSED = {
  'hooks-plugin': ['-hooks-plugin=./plugin', /--hooks-grpc or --hooks-http/],
  'expose-pprof': ['-expose-pprof', /profiler is not available/],
  'pprof-path': ['-pprof-path=/pprof/', /profiler is not available/],
  'pprof-block-profile-rate': ['-pprof-block-profile-rate=1', /profiler is not available/],
  'pprof-mutex-profile-rate': ['-pprof-mutex-profile-rate=1', /profiler is not available/],
}

/** Tested by themselves: the URL is not printed, or the bucket is Amazon's own. */
const ELSEWHERE = ['unix-sock', 'show-startup-logs', 's3-transfer-acceleration', 'version']

test('every flag with another value', { timeout: 10 * START_MS }, async (t) => {
  const named = [...Object.keys(OTHERS), ...Object.keys(REFUSED), ...ELSEWHERE].sort()
  assert.deepEqual(named, FLAGS.map(([name]) => name).sort())

  const [moto, google, azurite] = await Promise.all([startMoto(t), startGcs(t), startAzurite(t)])
  const { args: [, certificate, , key] } = await createCertificate(t)
  const hooks = await mkdtemp(join(tmpdir(), 'landfall-hooks-'))
  t.after(() => rm(hooks, { recursive: true }))
  const receiver = createServer((request, response) => {
    request.resume().once('end', () => response.setHeader('Content-Type', 'application/json').end('{}'))
  })
  await new Promise((resolve) => { receiver.listen(0, '127.0.0.1', resolve) })
  t.after(() => {
    receiver.closeAllConnections()
    receiver.close()
  })
  const [port] = await freePorts(1)
  const values = {
    port,
    certificate,
    key,
    hooks,
    receiver: `http://127.0.0.1:${receiver.address().port}`,
    s3: `-s3-bucket=${moto.bucket} -s3-endpoint=${moto.endpoint}`,
    gcs: `-gcs-bucket=${google.bucket}`,
    google: google.endpoint,
    azure: `-azure-storage=${azurite.container} -azure-endpoint=${azurite.endpoint}/devstoreaccount1`,
    // Nobody listens: only events go there, which wait.
    grpc: '-hooks-grpc=127.0.0.1:9 -hooks-enabled-events=post-finish',
  }
  const keys = { AWS_ACCESS_KEY_ID: moto.accessKey, AWS_SECRET_ACCESS_KEY: moto.secretKey, AWS_REGION: moto.region }
  const env = { ...keys, ...google.env, ...azurite.env }
  for (const [flag, template] of Object.entries(OTHERS)) {
    const line = template.replace(/\{(\w+)\}/g, (_, name) => values[name])
    assert.ok(line.includes(`-${flag}`), flag)
    const args = [...(flag === 'port' ? [] : ['-port=0']), '-compat=tusd', ...words(line)]
    const server = await uploads(t, args, { env })
    await server.stop()
  }
  for (const [flag, [line, reason]] of Object.entries(REFUSED)) {
    const server = await run(t, ['-port=0', '-compat=tusd', line])
    assert.equal(await server.ended, 2, flag)
    assert.match(server.lines.join('\n'), reason)
    assert.deepEqual(await readdir(server.directory), [], 'nothing was made')
  }
})

test('-unix-sock, where no URL is printed', { timeout: START_MS }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'landfall-socket-'))
  t.after(() => rm(folder, { recursive: true }))
  const socketPath = join(folder, 'tusd.sock')
  const server = await run(t, ['-unix-sock', socketPath])
  const end = Date.now() + START_MS
  for (;;) {
    try {
      await upload('http://localhost/files/', { socketPath })
      return
    } catch (error) {
      assert.ok(['ENOENT', 'ECONNREFUSED'].includes(error.code) && Date.now() < end, `${error}\n${server.lines.join('\n')}`)
      await new Promise((resolve) => { setTimeout(resolve, 50) })
    }
  }
})

test('-show-startup-logs=false prints nothing', { timeout: START_MS }, async (t) => {
  const [port] = await freePorts(1)
  const server = await run(t, ['-show-startup-logs=false', `-port=${port}`])
  const end = Date.now() + START_MS
  for (;;) {
    try {
      await upload(`http://127.0.0.1:${port}/files/`)
      break
    } catch (error) {
      assert.ok(error.code === 'ECONNREFUSED' && Date.now() < end, `${error}\n${server.lines.join('\n')}`)
      await new Promise((resolve) => { setTimeout(resolve, 50) })
    }
  }
  assert.deepEqual(server.lines, [])
})

test("tusd's exit codes", { timeout: START_MS }, async (t) => {
  const blocked = createServer()
  await new Promise((resolve) => { blocked.listen(0, '127.0.0.1', resolve) })
  t.after(() => blocked.close())
  for (const [line, code] of [
    ['-version', 0],
    ['-help', 0],
    ['-no-such-flag', 2],
    ['-max-size=many', 2],
    ['-max-size=', 2],
    // Fatal errors of the start.
    [`-host=127.0.0.1 -port=${blocked.address().port}`, 1],
    ['-port=0 -upload-dir=/dev/null/x', 1],
    ['-port=0 -hooks-dir=/no/such/directory', 1],
    ['-port=0 -hooks-http=http://127.0.0.1:9 -hooks-enabled-events=no-such-event', 1],
    ['-port=0 -cors-allow-origin=(', 1],
    ['-port=0 -tls-mode=tls9 -tls-certificate=/no/cert.pem -tls-key=/no/key.pem', 1],
  ]) {
    const server = await run(t, words(line))
    assert.equal(await server.ended, code, `${line}\n${server.lines.join('\n')}`)
  }
})
