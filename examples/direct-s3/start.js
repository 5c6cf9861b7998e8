// Starts everything that uploads straight to S3 take: a bucket, Landfall, and the page.
//
//   PORT, LANDFALL_PORT, GARAGE_PORT   where they serve; 9000, 8080 and 3900 if not set
//   LANDFALL_BIN                       the program; if not set, target/release/landfall of this repository, or landfall in $PATH
//   DATA                               where everything is kept; ./data if not set
//
// Garage is started if it is installed. Any other bucket is used instead if S3_BUCKET names one; S3_ENDPOINT is
// its service (Amazon's if not set), AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are as always.

import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { homedir } from 'node:os'
import { extname, join, normalize, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const SITE = join(HERE, 'dist')
const DATA = resolve(process.env.DATA ?? join(HERE, 'data'))
const PORT = Number(process.env.PORT ?? 9000)
const LANDFALL_PORT = Number(process.env.LANDFALL_PORT ?? 8080)
const GARAGE_PORT = Number(process.env.GARAGE_PORT ?? 3900)
const { LANDFALL_BIN, ...environment } = process.env
const BUILT = join(HERE, '../../target/release/landfall')
const LANDFALL = LANDFALL_BIN ?? (existsSync(BUILT) ? BUILT : 'landfall')
const START_SECONDS = 60

const page = `http://localhost:${PORT}`
const landfall = `http://localhost:${LANDFALL_PORT}`
const children = []

function end(code) {
  for (const child of children.toReversed()) child.kill('SIGTERM')
  process.exitCode = code
  server.close()
  server.closeAllConnections()
}

/** Runs a program beside this one; all end together. */
function run(program, args, env) {
  const child = spawn(program, args, { env: { ...environment, ...env }, stdio: ['ignore', 'inherit', 'inherit'] })
  children.push(child)
  child.once('error', (error) => console.error(`${program}: ${error.message}; is it installed?`))
  child.once('exit', (code) => end(code ?? process.exitCode ?? 1))
}

async function answers(url) {
  for (let second = 0; second < START_SECONDS * 10; second += 1) {
    if (await fetch(url).catch(() => null)) return
    await sleep(100)
  }
  throw new Error(`nobody answers at ${url}`)
}

/** Garage's own folder, or none if it isn't installed. */
function garage() {
  const folders = [...(process.env.PATH ?? '').split(':'), join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'bin')]
  return folders.map((folder) => join(folder, 'garage')).find(existsSync)
}

/** A bucket of one's own, on this machine. The keys are the example's, and good for nothing else. */
async function startGarage(program) {
  const secret = '1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec'
  const config = join(DATA, 'garage.toml')
  await writeFile(config, `metadata_dir = "${DATA}/garage-meta"
data_dir = "${DATA}/garage-data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:${GARAGE_PORT + 1}"
rpc_public_addr = "127.0.0.1:${GARAGE_PORT + 1}"
rpc_secret = "${secret}"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:${GARAGE_PORT}"
`)
  const place = {
    bucket: 'uploads',
    endpoint: `http://localhost:${GARAGE_PORT}`,
    env: {
      AWS_REGION: 'garage',
      AWS_ACCESS_KEY_ID: 'GK1a2b3c4d5e6f708192a3b4c5',
      AWS_SECRET_ACCESS_KEY: '5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99',
    },
  }
  run(program, ['-c', config, 'server', '--single-node', '--default-bucket'], {
    RUST_LOG: 'garage=warn',
    GARAGE_DEFAULT_ACCESS_KEY: place.env.AWS_ACCESS_KEY_ID,
    GARAGE_DEFAULT_SECRET_KEY: place.env.AWS_SECRET_ACCESS_KEY,
    GARAGE_DEFAULT_BUCKET: place.bucket,
  })
  await answers(place.endpoint)
  return place
}

/** The bucket: the one that is named, or one in Garage. */
async function findBucket() {
  const { S3_BUCKET: bucket, S3_ENDPOINT: endpoint } = process.env
  if (bucket) return { bucket, endpoint, env: {} }
  const program = garage()
  if (!program) throw new Error('install Garage (cargo install garage), or name a bucket by S3_BUCKET: see README.md')
  return startGarage(program)
}

/** Runs `landfall …` to its end; gives what it printed. */
async function landfallSays(args, env) {
  const { stdout } = await promisify(execFile)(LANDFALL, args, { env: { ...environment, ...env } })
  return stdout.trim()
}

/** A key for the page, made the first time. */
async function keyFor(name, database) {
  const file = join(DATA, `${name}.key`)
  if (!existsSync(file)) await writeFile(file, await landfallSays(['keys', 'add', name, ...database]), { mode: 0o600 })
  return (await readFile(file, 'utf8')).trim()
}

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css' }
let settings = {}

const server = createServer(async (request, response) => {
  try {
    const path = normalize(decodeURIComponent(new URL(request.url, page).pathname))
    if (path === '/settings.json') {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' })
      response.end(JSON.stringify(settings))
      return
    }
    const name = path.endsWith('/') ? `${path}index.html` : path
    const body = await readFile(join(SITE, name))
    response.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream' }).end(body)
  } catch {
    response.writeHead(404).end()
  }
})

async function start() {
  await mkdir(DATA, { recursive: true })
  const { bucket, endpoint, env } = await findBucket()
  const s3 = ['-s3-bucket', bucket, ...(endpoint ? ['-s3-endpoint', endpoint] : [])]
  const database = ['-database', join(DATA, 'landfall.db')]
  // The bucket must let pages of this origin in, and show them ETag.
  console.log(await landfallSays(['s3', 'set-cors', '--origin', page, ...s3], env))
  settings = { landfall, key: await keyFor('example', database) }
  run(LANDFALL, [
    '-direct',
    ...['-host', '127.0.0.1', '-port', String(LANDFALL_PORT)],
    ...['-cors-allow-origin', `^${page}$`],
    ...['-max-size', '10GiB'],
    ...database,
    ...s3,
  ], env)
  await answers(landfall)
  server.listen(PORT, '127.0.0.1', () => console.log(`${page}/`))
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => end(0))
start().catch((error) => {
  console.error(error.stderr || error.message)
  end(1)
})
