// Every recipe of examples/hooks, run as its header describes.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Landfall } from '../clients/lib/landfall.js'
import { tempDir } from '../clients/lib/source.js'
import { until } from '../clients/lib/tus.js'
import { EICAR, startClamd } from './lib/clamd.js'
import { freePort, python, run, serve } from './lib/programs.js'
import { Receiver, raw } from './lib/receiver.js'
import { append, create, head, withHttpHooks } from './lib/start.js'

const RECIPES = fileURLToPath(new URL('../../examples/hooks', import.meta.url))

/** Starts landfall with a command recipe and the variables that it reads. */
async function withRecipe(t, name, events, variables = {}) {
  const before = Object.fromEntries(Object.keys(variables).map((key) => [key, process.env[key]]))
  Object.assign(process.env, variables)
  try {
    return await Landfall.start(t, {
      args: ['--hooks-dir', join(RECIPES, name), '--hooks-enabled-events', events],
    })
  } finally {
    for (const [key, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[key]
      else process.env[key] = value
    }
  }
}

const SECRET = 'a secret of thirty-two bytes, or more'

/** A JSON Web Token, created without the recipe's own library. */
function token(claims, secret = SECRET, algorithm = 'HS256') {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: algorithm, typ: 'JWT' })}.${part(claims)}`
  const mac = createHmac('sha256', secret).update(signed).digest('base64url')
  return `${signed}.${algorithm === 'none' ? '' : mac}`
}

test('recipe: check a JWT', { timeout: 60_000 }, async (t) => {
  const port = await freePort()
  const said = await serve(
    t, port, python('uvicorn'),
    ['--port', String(port), '--app-dir', join(RECIPES, 'check-jwt'), 'check_jwt:app'],
    { env: { ...process.env, JWT_SECRET: SECRET } },
  )
  const landfall = await withHttpHooks(
    t, `http://127.0.0.1:${port}/hooks`, 'pre-create,post-finish',
    ['--hooks-http-forward-headers', 'Authorization'],
  )
  const now = Math.floor(Date.now() / 1000)
  const as = (given) => create(landfall.endpoint, Buffer.from('x'), {
    headers: given === null ? {} : { Authorization: given },
  })
  const refused = {
    'nothing at all': [null, /please sign in/],
    'another scheme': ['Basic dXNlcjpwYXNz', /please sign in/],
    'an old token': [`Bearer ${token({ sub: 'ann', exp: now - 60 })}`, /session is over/],
    'a foreign signature': [`Bearer ${token({ sub: 'ann', exp: now + 60 }, 'b'.repeat(40))}`, /not valid/],
    'no signature': [`Bearer ${token({ sub: 'ann', exp: now + 60 }, SECRET, 'none')}`, /not valid/],
    'no end': [`Bearer ${token({ sub: 'ann' })}`, /not valid/],
  }
  for (const [what, [given, why]] of Object.entries(refused)) {
    const answer = await as(given)
    assert.equal(answer.status, 401, what)
    assert.equal(answer.headers.get('Content-Type'), 'application/json', what)
    assert.match(JSON.parse(answer.text).message, why, what)
    assert.equal(answer.headers.get('WWW-Authenticate'), 'Bearer', what)
  }
  assert.deepEqual(await landfall.allInfos(), [])

  const { status, url } = await as(`Bearer ${token({ sub: 'ann', exp: now + 60 })}`)
  assert.equal(status, 201)
  const message = `upload ${landfall.idOf(url)} of ann is complete`
  await until(() => said.some((line) => line.includes(message)))
})

test('recipe: check a magic number', { timeout: 60_000 }, async (t) => {
  const landfall = await withRecipe(t, 'magic-number', 'pre-finish')
  const png = Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), Buffer.alloc(100)])
  const send = (data, filetype) =>
    create(landfall.endpoint, data, { meta: { filename: 'a', filetype } })

  assert.equal((await send(png, 'image/png')).status, 201)
  assert.equal((await send(Buffer.from('hello'), 'text/plain')).status, 201)
  assert.equal((await landfall.allInfos()).length, 2)

  const refused = await send(Buffer.from('MZ this is a program'), 'Image/PNG; q=1')
  assert.equal(refused.status, 415)
  assert.equal(refused.text, 'this is not a file of type Image/PNG; q=1\n')
  assert.equal((await landfall.allInfos()).length, 2, 'the rejected upload is removed')

  // In two requests, the last byte causes the rejection.
  const begun = await create(landfall.endpoint, Buffer.from('not '), {
    length: 8, meta: { filetype: 'application/pdf' },
  })
  assert.equal(begun.status, 201)
  assert.equal((await append(begun.url, 4, Buffer.from('pdf!'))).status, 415)
  assert.equal((await head(begun.url)).status, 415, 'the rejection is repeated')
})

test('recipe: scan with ClamAV', { timeout: 60_000 }, async (t) => {
  const path = join(await tempDir(t), 'clamd.ctl')
  const clamd = await startClamd(t, path)
  const landfall = await withRecipe(t, 'clamav', 'pre-finish', { CLAMD: path })

  const clean = Buffer.alloc(300_000, 'clean ')
  assert.equal((await create(landfall.endpoint, clean)).status, 201)
  assert.deepEqual(clamd.scanned, [clean.length])

  // In the middle of a file, across two chunks of the stream.
  const infected = Buffer.alloc(331_072)
  infected.write(EICAR, 131_072 - 30)
  const refused = await create(landfall.endpoint, infected)
  assert.equal(refused.status, 422)
  assert.match(refused.text, /contains a virus/)
  assert.equal((await landfall.allInfos()).length, 1, 'the infected upload is removed')

  // A file that clamd cannot scan is not accepted: nothing remains of a creation, and other uploads wait.
  const large = await create(landfall.endpoint, Buffer.alloc(2 * 1024 * 1024))
  assert.equal(large.status, 500)
  assert.doesNotMatch(large.text, /clamd/, 'no internal details reach the client')

  await clamd.close()
  const begun = await create(landfall.endpoint, Buffer.from('half '), { length: 10 })
  assert.equal((await append(begun.url, 5, Buffer.from('whole'))).status, 423)
  await startClamd(t, path)
  assert.equal((await append(begun.url, 10, Buffer.alloc(0))).status, 204)
  assert.equal(await readFile(landfall.pathOf(begun.url), 'utf8'), 'half whole')
})

test('recipe: move on finish, with duplicates', { timeout: 60_000 }, async (t) => {
  const inbox = join(await tempDir(t), 'in box')
  await mkdir(inbox)
  const landfall = await withRecipe(t, 'move', 'post-finish', { INBOX: inbox })
  const meta = { filename: '../../etc/passwd "quoted" $(id)' }
  const { url } = await create(landfall.endpoint, Buffer.from('to be moved'), { meta })
  const id = landfall.idOf(url)
  await until(() => !existsSync(`${landfall.pathOf(url)}.info`))
  assert.equal(await readFile(join(inbox, id), 'utf8'), 'to be moved')
  assert.deepEqual(JSON.parse(await readFile(join(inbox, `${id}.json`), 'utf8')), meta)
  assert.deepEqual((await readdir(inbox)).sort(), [id, `${id}.json`])
  assert.equal((await head(url)).status, 404)

  // A duplicate event, after each step that may have been interrupted.
  const event = (name) => JSON.stringify({
    Type: 'post-finish',
    Event: {
      Upload: {
        ID: name, IsPartial: false, MetaData: meta,
        Storage: { Path: join(inbox, '..', name), InfoPath: join(inbox, '..', `${name}.info`) },
      },
    },
  })
  const again = (name) => run(join(RECIPES, 'move/post-finish'), [], {
    env: { ...process.env, INBOX: inbox, TUS_ID: name },
    input: event(name),
  })
  const steps = {
    nothing: [join(inbox, '..', 'nothing')],
    moved: [join(inbox, 'moved.part')],
    'half-copied': [join(inbox, '..', 'half-copied'), join(inbox, 'half-copied.part')],
    renamed: [join(inbox, 'renamed')],
  }
  for (const [name, files] of Object.entries(steps)) {
    for (const [n, file] of files.entries()) await writeFile(file, n === 0 ? 'whole' : 'ha')
    for (const time of ['first', 'second']) {
      assert.equal((await again(name)).code, 0, `${name}, ${time} time`)
      assert.equal(await readFile(join(inbox, name), 'utf8'), 'whole', `${name}, ${time} time`)
    }
  }
  assert.equal((await again('taken')).code, 0, 'another program took it out of the inbox')
  assert.ok(!existsSync(join(inbox, 'taken')))
})

test('recipe: notify a chat room', { timeout: 60_000 }, async (t) => {
  let down = 1
  const room = await Receiver.start(t, () => (down-- > 0 ? raw(503, 'later') : raw(200, 'ok')))
  const landfall = await withRecipe(t, 'notify', 'post-finish', { WEBHOOK_URL: room.url })
  await create(landfall.endpoint, Buffer.alloc(1234), { meta: { filename: '<!everyone> & co.txt' } })
  await until(() => room.deliveries.length >= 2)
  const [first, second] = room.deliveries
  assert.deepEqual(first.message, second.message)
  assert.deepEqual(second.message, {
    text: '&lt;!everyone&gt; &amp; co.txt has arrived (1,234 bytes)',
  })
  assert.equal(second.headers['content-type'], 'application/json')
})
