// curl against the real binary, as used manually or in shell scripts.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Landfall } from './lib/landfall.js'
import { bytes, MIB, sha256, sourceFile, tempDir } from './lib/source.js'
import { until } from './lib/tus.js'

const TUS = ['-H', 'Tus-Resumable: 1.0.0']
const BYTES = ['-H', 'Content-Type: application/offset+octet-stream']
// curl adds this header to large bodies; without it, requests are deterministic.
const NO_EXPECT = ['-H', 'Expect:']

/** Starts curl; `answer` resolves when it ended. */
function start(args, input) {
  const child = spawn('curl', ['--silent', '--show-error', '--verbose', '--include', ...args])
  const out = []
  const err = []
  child.stdout.on('data', (chunk) => out.push(chunk))
  child.stderr.on('data', (chunk) => err.push(chunk))
  child.stdin.on('error', () => {})
  if (input !== undefined) child.stdin.end(input)
  const answer = once(child, 'close').then(([code]) => {
    const trace = Buffer.concat(err).toString()
    return { code, trace, ...parse(Buffer.concat(out)) }
  })
  return { child, answer }
}

/** Runs curl and fails without a response. */
async function curl(args, input = '') {
  const answer = await start(args, input).answer
  assert.equal(answer.code, 0, answer.trace)
  return answer
}

/** The last response in curl's output (after 1xx responses), with its body. */
function parse(output) {
  let rest = output
  let status = 0
  let headers = new Headers()
  let interim = 0
  while (rest.subarray(0, 5).toString() === 'HTTP/') {
    const end = rest.indexOf('\r\n\r\n')
    const [line, ...fields] = rest.subarray(0, end).toString('latin1').split('\r\n')
    if (status !== 0) interim = status
    status = Number(line.split(' ')[1])
    headers = new Headers(fields.map((field) => field.split(/:\s*(.*)/s).slice(0, 2)))
    rest = rest.subarray(end + 4)
    if (status >= 200) break
  }
  return { status, headers, interim, body: rest }
}

async function create(landfall, length, extra = []) {
  const answer = await curl([
    '-X',
    'POST',
    ...TUS,
    '-H',
    `Upload-Length: ${length}`,
    ...extra,
    landfall.endpoint,
  ])
  assert.equal(answer.status, 201, answer.trace)
  return new URL(answer.headers.get('Location'), landfall.endpoint).href
}

function append(url, offset, file, extra = []) {
  return curl([
    '-X',
    'PATCH',
    ...TUS,
    ...BYTES,
    '-H',
    `Upload-Offset: ${offset}`,
    ...extra,
    '--data-binary',
    `@${file}`,
    url,
  ])
}

async function offsetOf(url) {
  const answer = await curl(['--head', ...TUS, url])
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('Cache-Control'), 'no-store')
  return Number(answer.headers.get('Upload-Offset'))
}

test('curl: one request creates and uploads', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 3 * MIB + 5)
  const answer = await curl([
    '-X',
    'POST',
    ...TUS,
    ...BYTES,
    '-H',
    `Upload-Length: ${source.size}`,
    '-H',
    `Upload-Metadata: filename ${Buffer.from('a.bin').toString('base64')},private`,
    '--data-binary',
    `@${source.path}`,
    landfall.endpoint,
  ])
  assert.equal(answer.status, 201, answer.trace)
  assert.equal(answer.headers.get('Upload-Offset'), String(source.size))
  assert.equal(answer.headers.get('Tus-Resumable'), '1.0.0')
  const url = answer.headers.get('Location')
  assert.equal(await landfall.sha256(url), source.sha256)
  assert.deepEqual((await landfall.info(url)).MetaData, { filename: 'a.bin', private: '' })
})

test('curl: create, then pieces one after another', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(5_000_000)
  const dir = await tempDir(t)
  const url = await create(landfall, data.length)

  let offset = 0
  for (const size of [1, 65_535, 1_000_000, 0, 3_934_464]) {
    const piece = join(dir, 'piece')
    await writeFile(piece, data.subarray(offset, offset + size))
    const answer = await append(url, offset, piece)
    assert.equal(answer.status, 204, answer.trace)
    offset += size
    assert.equal(answer.headers.get('Upload-Offset'), String(offset))
    assert.equal(await offsetOf(url), offset)
  }
  assert.equal(offset, data.length)
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('curl: a wrong offset is refused and changes nothing', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 100_000)
  const url = await create(landfall, source.size)
  for (const wrong of [1, source.size]) {
    const answer = await append(url, wrong, source.path, NO_EXPECT)
    assert.equal(answer.status, 409, answer.trace)
    assert.equal(await offsetOf(url), 0)
  }
  assert.equal((await append(url, 0, source.path)).status, 204)
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('curl: killed in the middle, resumed by its offset', { timeout: 60_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 16 * MIB)
  const url = await create(landfall, source.size)

  const { child, answer } = start([
    '-X',
    'PATCH',
    ...TUS,
    ...BYTES,
    '-H',
    'Upload-Offset: 0',
    '--limit-rate',
    '4M',
    '--data-binary',
    `@${source.path}`,
    url,
  ])
  await until(async () => (await landfall.storedBytes(url)) > 2 * MIB)
  child.kill('SIGKILL')
  await answer

  const offset = await offsetOf(url)
  assert.ok(offset > 2 * MIB && offset < source.size, `kept ${offset} bytes`)
  const rest = join(await tempDir(t), 'rest')
  await writeFile(rest, source.data.subarray(offset))
  assert.equal((await append(url, offset, rest)).status, 204)
  assert.equal(await offsetOf(url), source.size)
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('curl: a pipe of unknown length, chunked, with Expect', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const data = bytes(4 * MIB + 17, 3)
  const created = await curl(['-X', 'POST', ...TUS, '-H', 'Upload-Defer-Length: 1', landfall.endpoint])
  assert.equal(created.status, 201, created.trace)
  const url = created.headers.get('Location')
  assert.equal((await landfall.info(url)).SizeIsDeferred, true)

  const answer = await curl(
    [
      '-X',
      'PATCH',
      ...TUS,
      ...BYTES,
      '-H',
      'Upload-Offset: 0',
      '-H',
      'Expect: 100-continue',
      '-H',
      'Transfer-Encoding: chunked',
      '-T',
      '-',
      url,
    ],
    data,
  )
  assert.match(answer.trace, /> Transfer-Encoding: chunked/)
  assert.match(answer.trace, /< HTTP\/1\.1 100 Continue/)
  assert.equal(answer.interim, 100)
  assert.equal(answer.status, 204, answer.trace)
  assert.equal(await offsetOf(url), data.length)

  // The length is declared at the end, by a PATCH without bytes.
  const end = await curl([
    '-X',
    'PATCH',
    ...TUS,
    ...BYTES,
    '-H',
    `Upload-Offset: ${data.length}`,
    '-H',
    `Upload-Length: ${data.length}`,
    url,
  ])
  assert.equal(end.status, 204, end.trace)
  assert.equal((await landfall.info(url)).Size, data.length)
  assert.equal(await landfall.sha256(url), sha256(data))
})

test('curl: Expect lets the server refuse before a byte is sent', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t, { args: ['-max-size', '1000000'] })
  const source = await sourceFile(t, 3 * MIB)
  const answer = await curl([
    '-X',
    'POST',
    ...TUS,
    ...BYTES,
    '-H',
    `Upload-Length: ${source.size}`,
    '-H',
    'Expect: 100-continue',
    '--expect100-timeout',
    '20',
    '--data-binary',
    `@${source.path}`,
    '--write-out',
    '%{stderr}sent %{size_upload} bytes',
    landfall.endpoint,
  ])
  assert.equal(answer.status, 413, answer.trace)
  assert.equal(answer.interim, 0, 'no 100 Continue came first')
  assert.match(answer.trace, /sent 0 bytes/)
  assert.deepEqual(await landfall.allInfos(), [])
})

test('curl: a checksum is checked, and a wrong one keeps nothing', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 200_000)
  const url = await create(landfall, source.size)
  const digest = (hex) => ['-H', `Upload-Checksum: sha256 ${Buffer.from(hex, 'hex').toString('base64')}`]

  const wrong = await append(url, 0, source.path, [...digest(sha256(Buffer.from('no'))), ...NO_EXPECT])
  assert.equal(wrong.status, 460, wrong.trace)
  assert.equal(await offsetOf(url), 0)
  const right = await append(url, 0, source.path, [...digest(source.sha256), ...NO_EXPECT])
  assert.equal(right.status, 204, right.trace)
  assert.equal(await landfall.sha256(url), source.sha256)
})

test('curl: what OPTIONS tells', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t, { args: ['-max-size', '5000000'] })
  const answer = await curl(['-X', 'OPTIONS', landfall.endpoint])
  assert.ok([200, 204].includes(answer.status))
  assert.equal(answer.headers.get('Tus-Version'), '1.0.0')
  assert.equal(answer.headers.get('Tus-Max-Size'), '5000000')
  const extensions = answer.headers.get('Tus-Extension').split(',')
  for (const extension of [
    'creation',
    'creation-with-upload',
    'creation-defer-length',
    'expiration',
    'checksum',
    'checksum-trailer',
    'termination',
    'concatenation',
    'concatenation-unfinished',
  ]) {
    assert.ok(extensions.includes(extension), `${extension} is among ${extensions}`)
  }
})

test('curl: DELETE removes the bytes', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const url = await create(landfall, 10)
  const path = landfall.pathOf(url)
  await stat(path)
  assert.equal((await curl(['-X', 'DELETE', ...TUS, url])).status, 204)
  await assert.rejects(stat(path), { code: 'ENOENT' })
  assert.ok([404, 410].includes((await curl(['--head', ...TUS, url])).status))
  assert.ok([404, 410].includes((await curl(['-X', 'DELETE', ...TUS, url])).status))
})

test('curl: a finished upload is downloaded, whole, in part and resumed', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 2 * MIB + 9)
  const name = Buffer.from('rapport "été".pdf').toString('base64')
  const url = await create(landfall, source.size, [
    '-H',
    `Upload-Metadata: filename ${name},filetype ${Buffer.from('application/pdf').toString('base64')}`,
  ])
  assert.equal((await append(url, 0, source.path)).status, 204)

  const whole = await curl([url])
  assert.equal(whole.status, 200)
  assert.equal(whole.headers.get('Content-Length'), String(source.size))
  // Only what browsers may show has its own type.
  assert.equal(whole.headers.get('Content-Type'), 'application/octet-stream')
  assert.match(whole.headers.get('Content-Disposition'), /filename/)
  assert.equal(sha256(whole.body), source.sha256)

  for (const [range, from, to] of [
    ['0-0', 0, 1],
    ['1000-1999', 1000, 2000],
    [`${source.size - 5}-`, source.size - 5, source.size],
    ['-7', source.size - 7, source.size],
  ]) {
    const part = await curl(['--range', range, url])
    assert.equal(part.status, 206, part.trace)
    assert.equal(part.headers.get('Content-Range'), `bytes ${from}-${to - 1}/${source.size}`)
    assert.ok(part.body.equals(source.data.subarray(from, to)), `range ${range}`)
  }
  const beyond = await curl(['--range', `${source.size}-`, url])
  assert.equal(beyond.status, 416)
  assert.equal(beyond.headers.get('Content-Range'), `bytes */${source.size}`)

  // `curl -C -` resumes an interrupted download.
  const partial = join(await tempDir(t), 'download')
  await writeFile(partial, source.data.subarray(0, 700_001))
  const resumed = await start(['-C', '-', '-o', partial, url], '').answer
  assert.equal(resumed.code, 0, resumed.trace)
  const written = await readFile(partial)
  // --include writes the head of the response into the file as well, after the old bytes.
  const headEnd = written.indexOf('\r\n\r\n', 700_001) + 4
  assert.ok(written.subarray(0, 700_001).equals(source.data.subarray(0, 700_001)))
  assert.ok(written.subarray(headEnd).equals(source.data.subarray(700_001)))

  const tag = whole.headers.get('ETag')
  const unchanged = await curl(['-H', `If-None-Match: ${tag}`, url])
  assert.equal(unchanged.status, 304)
  assert.equal(unchanged.body.length, 0)
})

test('curl: HTTP/1.0 and a closed connection', { timeout: 30_000 }, async (t) => {
  const landfall = await Landfall.start(t)
  const source = await sourceFile(t, 50_000)
  const url = await create(landfall, source.size)
  const answer = await append(url, 0, source.path, ['--http1.0'])
  assert.equal(answer.status, 204, answer.trace)
  assert.equal(await landfall.sha256(url), source.sha256)
})
