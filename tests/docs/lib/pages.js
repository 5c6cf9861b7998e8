// What the tests do with each block of commands, in the order of its page.

import assert from 'node:assert/strict'
import { readdir, rm } from 'node:fs/promises'

const ORIGIN = 'http://localhost:8080'

/** The block starts a server that becomes ready; `probe` checks it. */
const serve = (probe) => ({ kind: 'serve', probe })
/** The block compiles the server in a checkout, and starts it. */
const compile = () => ({ kind: 'compile' })
/** The block runs to its end, and what it prints matches. */
const run = (pattern = /^/) => ({ kind: 'run', pattern })
/** Between two blocks, what the page presumes is done. */
const meanwhile = (action) => [null, { kind: 'meanwhile', action }]
/** The block cannot run here, for this reason: its syntax and its calls of landfall, `count` of them, are checked. */
const checked = (reason, count = 1) => ({ kind: 'checked', reason, count })

const ROOT = 'needs root and a systemd'
const ACCOUNT = 'needs credentials'
const HOSTS = 'names hosts that do not exist'
const CONTAINER = 'needs a container engine'
const PACKAGE = 'names the configuration of a package'
const CLUSTER = 'needs a cluster'
const RECURSION = 'runs this test'
const CHECKOUT = 'needs a checkout and a compiler; part install runs it'

async function answersTo(path, status, options = {}) {
  const response = await fetch(`${ORIGIN}${path}`, options)
  assert.equal(response.status, status, `${path}: ${await response.text()}`)
  return response
}

const creation = { method: 'POST', headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': '5' } }
const needsToken = () => answersTo('/files/', 401, creation)
const signs = () => answersTo('/api/sign_s3', 401, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"file_name": "a"}',
})

async function allowsOneOrigin() {
  const ask = (status, Origin) => answersTo('/files/', status, {
    method: 'OPTIONS', headers: { Origin, 'Access-Control-Request-Method': 'POST' },
  })
  const allowed = await ask(200, 'https://app.example.com')
  assert.equal(allowed.headers.get('Access-Control-Allow-Origin'), 'https://app.example.com')
  assert.equal(allowed.headers.get('Access-Control-Allow-Credentials'), 'true')
  await ask(403, 'https://evil.example.com')
}

const SERVER = 'landfall --upload-dir /srv/uploads --grants'
let upload

async function startUpload(terminals) {
  await terminals.serve(SERVER)
  const created = await answersTo('/files/', 201, {
    method: 'POST',
    headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': '11', 'Content-Type': 'application/offset+octet-stream' },
    body: 'hello',
  })
  upload = new URL(created.headers.get('Location')).pathname
}

async function loseDisk(terminals) {
  await terminals.stopServer()
  for (const name of await readdir('/srv/uploads')) await rm(`/srv/uploads/${name}`, { recursive: true })
}

async function resumeUpload(terminals) {
  await terminals.serve(SERVER)
  const headers = { 'Tus-Resumable': '1.0.0', 'Upload-Offset': '5', 'Content-Type': 'application/offset+octet-stream' }
  const resumed = await answersTo(upload, 204, { method: 'PATCH', headers, body: ' world' })
  assert.equal(resumed.headers.get('Upload-Offset'), '11')
}

/** By page: the beginning of each block, and what is done with it. */
export const COMMANDS = {
  'README.md': [
    ['cargo run --release', compile()],
    ['scripts/test', checked(RECURSION, 0)],
    ['# Create an upload', run(/^hello world$/m)],
    ['AWS_ACCESS_KEY_ID', checked(ACCOUNT)],
    ['landfall --hooks-http', serve()],
    ['landfall --require-grant', serve(needsToken)],
    ['landfall link --name', run(/#token=lfk_/)],
    ['landfall upload video.mp4 photos/', checked(HOSTS)],
  ],
  'docs/quick-start.md': [
    ['git clone', serve()],
    ['LOCATION=', run()],
    ['curl -sS -I', run(/^upload-offset: 5\r?$[\s\S]*^hello world$/im)],
  ],
  'docs/uppy.md': [['landfall --cors', serve(allowsOneOrigin)]],
  'docs/authorize.md': [
    ['landfall --hooks-http', serve()],
    ['landfall --require-grant', serve(needsToken)],
  ],
  'docs/s3.md': [
    ['AWS_ACCESS_KEY_ID', checked(ACCOUNT)],
    ['landfall doctor', run(/^no problems found/m)],
    ['landfall doctor', run(/^warn +CORS/m)],
    ['landfall s3 set-cors', run(/landfall-direct/)],
  ],
  'docs/gcs.md': [['gcloud storage', checked(ACCOUNT, 2)]],
  'docs/azure.md': [['az storage', checked(ACCOUNT, 2)]],
  'docs/direct.md': [
    ['landfall --s3-bucket', serve(signs)],
    ['KEY=', run()],
    ['SIGNED_REQUEST=', run(/"state": ?"completed"/)],
    ['landfall --gcs-bucket', checked(ACCOUNT, 2)],
    ['cat > cors.jsonc', checked(ACCOUNT, 0)],
  ],
  'docs/grants.md': [
    ['landfall --require-grant', serve(needsToken)],
    ['KEY=', run()],
    ['UPLOAD_URL=', run(/"state": ?"completed"/)],
    ['landfall keys add', run(/^lfk_.*\nlfk_[\s\S]*\bbackup\b/m)],
    ['landfall --require-grant --grants-forward', serve(needsToken)],
    ['landfall --grants --grants-client', checked('needs root and certificates')],
    ['landfall --require-grant --hooks-http', serve(needsToken)],
    ['landfall --require-grant --behind-proxy', serve(needsToken)],
    ['landfall --require-grant --database', checked(HOSTS)],
  ],
  'docs/hooks.md': [
    ['landfall --hooks-http', checked('needs an application of each kind', 4)],
    ['landfall events', checked('names no event', 3)],
    ['landfall --hooks-http https', serve()],
  ],
  'docs/reverse-proxy.md': [
    ['landfall --proxy-protocol', checked('needs certificates')],
    ['landfall doctor', checked(HOSTS)],
  ],
  'docs/service.md': [['cp target', checked(ROOT)]],
  'docs/tls.md': [
    ['landfall --port', checked('needs root and certificates')],
    ['landfall --port', checked('needs root and a name on the Internet')],
    ['landfall --port', checked('needs root and certificates')],
  ],
  'docs/containers.md': [
    ['cargo build', checked(CONTAINER, 0)],
    ['docker compose', checked(CONTAINER, 0)],
    ['kubectl', checked(CLUSTER, 0)],
    ['helm', checked(CLUSTER, 0)],
  ],
  'docs/scaling.md': [
    ['landfall --s3-bucket', checked(HOSTS, 3)],
    ['landfall --s3-bucket', checked(HOSTS)],
    ['landfall --s3-bucket', checked(HOSTS)],
  ],
  'docs/migrating-from-tusd.md': [
    ['landfall config check', run(/^behind-proxy = true +# --behind-proxy$/m)],
    ['landfall sweep', run()],
  ],
  'docs/backup.md': [
    meanwhile(startUpload),
    ['sqlite3', run()],
    meanwhile(loseDisk),
    ['rsync', run()],
    ['landfall doctor files', run(/^no problems found/m)],
    meanwhile(resumeUpload),
  ],
  'docs/upload.md': [
    ['landfall upload video.mp4 https', checked(HOSTS)],
    ['landfall upload --list', checked(HOSTS, 2)],
    ['landfall upload photos/', checked(HOSTS)],
    ['pg_dump', checked(HOSTS)],
    ['URL=$(landfall', checked(HOSTS)],
    ['landfall upload video.mp4 --bearer', checked(HOSTS, 3)],
    ['landfall upload photos/ ', checked(HOSTS)],
    ['landfall upload backup.tar --limit', checked(HOSTS, 2)],
    ['landfall upload backup.tar --checksum', checked(HOSTS)],
    ['UPLOAD=$(landfall', checked(HOSTS, 2)],
    ['landfall download', checked(HOSTS)],
  ],
  'docs/upgrade.md': [
    ['landfall config check', checked(PACKAGE)],
    ['apt-get', checked(ROOT, 0)],
    ['docker', checked(CONTAINER, 0)],
    ['landfall migrate', checked(PACKAGE)],
    ['landfall health', checked(PACKAGE)],
  ],
  'docs/dashboard.md': [
    ['LANDFALL_ADMIN_KEY', serve(() => answersTo('/admin/api/overview', 401))],
    ['curl', checked(HOSTS, 0)],
  ],
  'docs/install.md': [
    ['cargo install', serve()],
    ['scripts/release', checked(CHECKOUT, 0)],
    ['sudo landfall config check', checked(ROOT)],
  ],
  'docs/protocol.md': [
    ['LOCATION=', run(/^upload-complete: \?1\r?$/im)],
  ],
  'docs/operations.md': [
    ['landfall sweep', run()],
    ['export AWS', checked(ACCOUNT, 2)],
  ],
  'docs/storage.md': [
    ['landfall --upload-dir', checked('two servers, in a directory of the system', 2)],
    ['landfall --upload-dir /var/lib/landfall --data-dirs', checked('in directories of the system')],
  ],
  'docs/upload-page.md': [
    ['landfall link --name', run(/#token=lfk_/)],
    ['landfall link list', run(/^1 link revoked$/m)],
    ['landfall --page-title', checked('names a file of the reader')],
  ],
  'docs/conformance.md': [
    meanwhile((terminals) => terminals.serve('landfall')),
    ['landfall conformance http', run(/^  MUST +\d+ passed +0 failed +0 errors/m)],
    ['landfall conformance https', checked(HOSTS)],
    ['landfall conformance http', checked('is the first one for longer')],
  ],
}

/** Lines that the tested program replaces. */
export const installed = (text) => text
  .replaceAll(/^git clone \S+\/(\w+)$/gm, 'mkdir $1')
  .replaceAll(/^cargo install .*$/gm, ':')

/** Pages whose reader has a bucket. */
export const WITH_BUCKET = ['docs/s3.md', 'docs/direct.md']
