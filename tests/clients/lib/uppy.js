// examples/uppy-vue, built as its README says, and actions on its page.

import { execFile } from 'node:child_process'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { tempDir } from './source.js'

const EXAMPLE = fileURLToPath(new URL('../../../examples/uppy-vue', import.meta.url))
const VITE = join(EXAMPLE, 'node_modules/vite/bin/vite.js')

/** Builds the page for `endpoint` and this token into a directory of test `t`. */
export async function buildPage(t, endpoint, token) {
  await access(VITE).catch(() => {
    throw new Error(`run "npm ci" in ${EXAMPLE} first`)
  })
  const out = await tempDir(t)
  const args = [VITE, 'build', '--outDir', out, '--emptyOutDir', '--logLevel', 'warn']
  const env = { ...process.env, VITE_TUS_ENDPOINT: endpoint, VITE_UPLOAD_TOKEN: token }
  await promisify(execFile)(process.execPath, args, { cwd: EXAMPLE, env })
  return out
}

/** Adds files as the "browse files" button does. */
export async function add(page, sources) {
  await page
    .locator('input.uppy-Dashboard-input:not([webkitdirectory])')
    .first()
    .setInputFiles(sources.map(({ path }) => path))
  for (const { name } of sources) {
    await page.locator('.uppy-Dashboard-Item', { hasText: name }).waitFor()
  }
}

export function startUpload(page) {
  return page.locator('.uppy-StatusBar-actionBtn--upload').click()
}

/** Waits until the page lists `sources` as uploaded; returns their URLs by name. */
export async function arrived(page, sources) {
  const list = page.getByRole('region', { name: 'Arrived' })
  const urls = new Map()
  for (const { name } of sources) {
    const link = list.getByRole('link', { name })
    await link.waitFor({ timeout: 60_000 })
    urls.set(name, await link.getAttribute('href'))
  }
  return urls
}
