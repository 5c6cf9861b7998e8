// The application of examples/grants, with a landfall that uses its forward auth.

import { access } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { freePort, serve } from '../../hooks/lib/programs.js'

const EXAMPLE = fileURLToPath(new URL('../../../examples/grants', import.meta.url))
const VITE = `${EXAMPLE}/node_modules/vite/bin/vite.js`
let built

/** Builds the page as the example's README says, once for all tests. */
async function build() {
  await access(VITE).catch(() => {
    throw new Error(`run "npm ci" in ${EXAMPLE} first`)
  })
  await promisify(execFile)(process.execPath, [VITE, 'build', '--logLevel', 'warn'], { cwd: EXAMPLE })
}

/** An application on a free port. It starts once it has the URL of landfall. */
export class App {
  constructor(port) {
    this.port = port
    this.origin = `http://127.0.0.1:${port}`
  }

  static async reserve() {
    return new App(await freePort())
  }

  /** What landfall needs in order to ask this application. */
  get args() {
    return ['--grants-forward-auth-url', `${this.origin}/authorize`]
  }

  /** What landfall needs so that this application's pages may use it from another origin. */
  get crossOrigin() {
    return ['--grants-allowed-origins', this.origin, '-cors-allow-credentials', '-cors-allow-origin', `^${this.origin}$`]
  }

  /** Flags of landfall for forward auth and completion events. */
  get hooks() {
    return ['-hooks-http', `${this.origin}/hooks`, '-hooks-enabled-events', 'UploadCompleted']
  }

  async start(t, landfall) {
    built ??= build()
    await built
    const env = { ...process.env, PORT: String(this.port), LANDFALL: landfall }
    this.lines = await serve(t, this.port, process.execPath, [`${EXAMPLE}/app.js`], { env })
  }

  /** Signs a user in; returns the cookie. */
  async signIn(name) {
    const answer = await fetch(`${this.origin}/login`, { method: 'POST', body: new URLSearchParams({ name }) })
    return answer.headers.get('Set-Cookie').split(';')[0]
  }

  /** The completed files of the user with this cookie. */
  async files(cookie) {
    return (await fetch(`${this.origin}/files.json`, { headers: { Cookie: cookie } })).json()
  }
}
