// What must not happen at the real server: leaks, guesses, confusion, the use of somebody else's session.

import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { exportJWK, SignJWT } from 'jose'
import { tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { append, create } from '../hooks/lib/start.js'
import { Receiver } from '../hooks/lib/receiver.js'
import { App } from './lib/app.js'
import { Listener } from './lib/listener.js'
import { addKey, Caller, stateDir, withGrants } from './lib/queue.js'

const FILE = { filename: 'a.bin', filesize: 5 }

test("another's uploads are as invisible as ones that never were", { timeout: 60_000 }, async (t) => {
  const landfall = await withGrants(t)
  const ann = Caller.withKey(landfall.endpoint, await addKey(landfall, 'ann'))
  const bob = Caller.withKey(landfall.endpoint, await addKey(landfall, 'bob'))
  await ann.grant({ id: 'mine', filesize: 5 })
  for (const method of ['GET', 'DELETE']) {
    const foreign = await bob.ask(method, '/mine')
    const unknown = await bob.ask(method, '/none')
    assert.deepEqual([foreign.status, unknown.status], [404, 404])
    assert.equal(foreign.text.replaceAll('mine', 'none'), unknown.text)
  }
  assert.deepEqual(await bob.all(), [])
  // Their ids are their own: nobody can take or probe them.
  const listener = await Listener.open(t, bob)
  assert.equal((await bob.grant({ id: 'mine', filesize: 6 })).size, 6)
  await ann.cancel('mine')
  await bob.cancel('mine')
  await listener.heard('mine', 'UploadCancelled')
  assert.equal(listener.of('mine').length, 1)
  assert.equal(listener.of('mine')[0].data.upload.size, 6)
})

test('tokens and keys are in no log, answer, file, database or message', { timeout: 60_000 }, async (t) => {
  const receiver = await Receiver.start(t, () => ({}))
  const all = 'pre-access,pre-create,post-create,post-receive,pre-finish,post-finish,pre-terminate,post-terminate,'
    + 'pre-grant,UploadStarted,UploadProgress,UploadCompleted,UploadCancelled'
  const landfall = await withGrants(t, [
    '-verbose', '-hooks-http', receiver.url, '-hooks-enabled-events', all,
    '-hooks-http-forward-headers', 'Authorization,Upload-Token,Upload-Metadata,Cookie',
  ])
  const key = await addKey(landfall, 'app')
  const caller = Caller.withKey(landfall.endpoint, key)
  const listener = await Listener.open(t, caller)
  const secrets = [key]
  const answers = []
  const body = Buffer.from('hello')
  const ways = {
    meta: (token, id) => ({ meta: { token, upload_request_id: id } }),
    short: (token) => ({ meta: { upload_token: token } }),
    bearer: (token) => ({ headers: { Authorization: `Bearer ${token}` } }),
    header: (token) => ({ headers: { 'Upload-Token': token } }),
  }
  for (const [id, way] of Object.entries(ways)) {
    const granted = await caller.grant({ id, ...FILE })
    secrets.push(granted.upload_token)
    const options = way(granted.upload_token, id)
    const made = await create(landfall.endpoint, body.subarray(0, 2), { length: 5, ...options })
    assert.equal(made.status, 201, made.text)
    // Refused ones are as quiet.
    const refused = await create(landfall.endpoint, body, { length: 7, ...options })
    assert.ok(refused.status >= 400)
    const sent = await append(made.url, 2, body.subarray(2))
    for (const { headers, text } of [made, refused, sent]) answers.push(JSON.stringify([...headers]), text)
    answers.push((await caller.ask('GET', `/${id}`)).text)
  }
  const unused = await caller.grant({ id: 'unused', ...FILE })
  secrets.push(unused.upload_token, 'lft_madeUpByGuessingAAAAAAAAAAAAAAAAAAAAAAAAAAA')
  await create(landfall.endpoint, body, { headers: { 'Upload-Token': secrets.at(-1) } })
  answers.push((await caller.cancel('unused')).text, (await caller.ask('GET')).text)
  await listener.heard('header', 'UploadCompleted')
  await listener.heard('unused', 'UploadCancelled')
  await until(() => receiver.deliveries.some(({ message }) => message.Type === 'UploadCancelled'))
  await landfall.stop()

  const places = { 'the log': landfall.log, answers: answers.join('\n'), events: JSON.stringify(listener.events) }
  for (const { hook, url, headers, body: text } of receiver.deliveries) {
    places[`messages of ${hook}`] = `${places[`messages of ${hook}`] ?? ''}${url}${JSON.stringify(headers)}${text}`
  }
  for (const dir of [landfall.dir, stateDir(landfall)]) {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      if (entry.isFile()) places[entry.name] = await readFile(join(dir, entry.name), 'latin1')
    }
  }
  assert.ok(Object.keys(places).some((name) => name.includes('.db')), Object.keys(places).join())
  assert.ok(places['messages of pre-create'] && places['messages of pre-grant'], Object.keys(places).join())
  assert.match(places['the log'], /header/)
  for (const secret of secrets) {
    // As it is, without its prefix, and as the metadata has it.
    const forms = [secret, secret.slice(4), Buffer.from(secret).toString('base64')]
    for (const [place, text] of Object.entries(places)) {
      for (const form of forms) assert.ok(!text.includes(form), `a secret is in ${place}`)
    }
  }
})

test('guessing is limited, and only for those who guess', { timeout: 60_000 }, async (t) => {
  const landfall = await withGrants(t, ['-behind-proxy'])
  const key = await addKey(landfall, 'app')
  const from = (address, headers) => new Caller(landfall.endpoint, { 'X-Forwarded-For': address, ...headers })
  const wrong = (n) => ({ Authorization: `Bearer lfk_${String(n).padStart(43, 'A')}` })
  const seen = []
  for (let n = 0; n < 15; n += 1) seen.push(await from('192.0.2.1', wrong(n)).ask('GET'))
  const statuses = seen.map(({ status }) => status)
  assert.equal(statuses[0], 401)
  assert.equal(statuses.at(-1), 429, statuses.join())
  assert.ok(Number(seen.at(-1).headers.get('Retry-After')) > 0)
  // Other addresses go on.
  const other = from('192.0.2.2', { Authorization: `Bearer ${key}` })
  assert.equal((await other.ask('GET')).status, 200)
  const token = (n, address) => create(landfall.endpoint, Buffer.from('hello'), {
    headers: { 'Upload-Token': `lft_${String(n).padStart(43, 'B')}`, 'X-Forwarded-For': address },
  })
  const tokens = []
  for (let n = 0; n < 15; n += 1) tokens.push((await token(n, '192.0.2.3')).status)
  assert.equal(tokens[0], 401)
  assert.equal(tokens.at(-1), 429, tokens.join())
  const granted = await other.grant({ id: 'good', ...FILE })
  const made = await create(landfall.endpoint, Buffer.from('hello'), {
    headers: { 'Upload-Token': granted.upload_token, 'X-Forwarded-For': '192.0.2.4' },
  })
  assert.equal(made.status, 201)
})

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

test('JWTs: the right ones are known, confusing ones refused', { timeout: 60_000 }, async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const file = join(await tempDir(t), 'keys.json')
  const jwk = { ...(await exportJWK(publicKey)), kid: 'one', use: 'sig', alg: 'RS256' }
  await writeFile(file, JSON.stringify({ keys: [jwk] }))
  const landfall = await withGrants(t, [
    '-behind-proxy', '--grants-jwt-keys', file, '--grants-jwt-issuer', 'https://id.example.com',
    '--grants-jwt-audience', 'uploads',
  ])
  let address = 0
  // From another address each time, since guesses are counted.
  const ask = (token) => {
    address += 1
    return new Caller(landfall.endpoint, {
      Authorization: `Bearer ${token}`, 'X-Forwarded-For': `192.0.2.${address}`,
    }).ask('POST', '', { id: `id-${address}`, ...FILE })
  }
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub: 'ann', iss: 'https://id.example.com', aud: 'uploads', exp: now + 600 }
  const sign = (change = {}, header = {}, key = privateKey) =>
    new SignJWT({ ...claims, ...change }).setProtectedHeader({ alg: 'RS256', kid: 'one', ...header }).sign(key)

  const good = await ask(await sign())
  assert.equal(good.status, 201, good.text)
  const limited = await ask(await sign({ landfall: { max_size: 4 } }))
  assert.deepEqual([limited.status, Object.keys(limited.body.errors)], [422, ['filesize']])

  const pem = publicKey.export({ type: 'spki', format: 'pem' })
  const hmac = (header, secret) => {
    const signed = `${base64url({ alg: 'HS256', kid: 'one', ...header })}.${base64url(claims)}`
    return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
  }
  const embedded = await exportJWK(other.publicKey)
  const bad = {
    none: `${base64url({ alg: 'none', kid: 'one' })}.${base64url(claims)}.`,
    None: `${base64url({ alg: 'None', kid: 'one' })}.${base64url(claims)}.`,
    'HS256 with the public key': hmac({}, pem),
    'HS256 with the modulus': hmac({}, Buffer.from(jwk.n, 'base64url')),
    'a key of its own': await sign({}, {}, other.privateKey),
    'a key that it brings along': await sign({}, { jwk: embedded }, other.privateKey),
    'another algorithm': await sign({}, { alg: 'PS256' }),
    'an unknown kid': await sign({}, { kid: '../../dev/null' }, other.privateKey),
    expired: await sign({ exp: now - 120 }),
    'not yet': await sign({ nbf: now + 600 }),
    'no end': await sign({ exp: undefined }),
    'another issuer': await sign({ iss: 'https://evil.example.com' }),
    'another audience': await sign({ aud: 'mail' }),
    nobody: await sign({ sub: undefined }),
    'an empty name': await sign({ sub: '' }),
    changed: (await sign()).replace(/\.[^.]+\./, `.${base64url({ ...claims, sub: 'root' })}.`),
  }
  for (const [name, token] of Object.entries(bad)) {
    const answer = await ask(token)
    assert.equal(answer.status, 401, `${name}: ${answer.text}`)
    assert.ok(!landfall.log.includes(token), `${name} is in the log`)
  }
})

test("a cookie counts only on the application's own pages", { timeout: 60_000 }, async (t) => {
  const app = await App.reserve()
  const landfall = await withGrants(t, [...app.args, ...app.crossOrigin])
  const { origin } = new URL(landfall.endpoint)
  await app.start(t, origin)
  const cookie = await app.signIn('ann')
  let n = 0
  const post = async (headers, body) => {
    n += 1
    const text = body ?? JSON.stringify({ id: `id-${n}`, ...FILE })
    const answer = await fetch(`${origin}/uploadjobs`, {
      method: 'POST', headers: { Cookie: cookie, 'Content-Type': 'application/json', ...headers }, body: text,
    })
    return answer.status
  }
  assert.equal(await post({ 'Sec-Fetch-Site': 'same-origin', Origin: origin }), 201)
  assert.equal(await post({ 'Sec-Fetch-Site': 'same-site', Origin: app.origin }), 201)
  assert.equal(await post({ Origin: origin }), 201)
  for (const headers of [
    { 'Sec-Fetch-Site': 'cross-site', Origin: 'http://evil.example' },
    { 'Sec-Fetch-Site': 'same-site', Origin: 'http://127.0.0.1:1' },
    { Origin: 'http://evil.example' },
    { Origin: 'null' },
  ]) {
    assert.equal(await post(headers), 403, JSON.stringify(headers))
  }
  const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
  assert.ok([403, 415].includes(await post(form, 'id=x&filename=a&filesize=1')))
  // Whoever isn't signed in is told so, in the application's words or ours.
  assert.equal(await post({ Cookie: 'session=made-up', Origin: origin }), 401)
})
