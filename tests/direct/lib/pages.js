// The pages of tests: one for each major of Uppy, and a plain one. Built once for all tests of a file.

import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { serveSite } from '../../clients/lib/browser.js'
import { tempDir } from '../../clients/lib/source.js'

const HERE = fileURLToPath(new URL('..', import.meta.url))

/** The majors of Uppy that are tested. */
export const MAJORS = [4, 5, 6]

/** Builds all pages into a folder of test `t`. */
export async function buildPages(t) {
  await access(join(HERE, 'node_modules/vite')).catch(() => {
    throw new Error(`run "npm ci" in ${HERE} first`)
  })
  const { build } = await import('vite')
  const outDir = await tempDir(t)
  const pages = [...MAJORS.map((major) => `uppy/${major}/index.html`), 'page/plain.html']
  await build({
    root: HERE,
    base: './',
    configFile: false,
    logLevel: 'warn',
    build: {
      outDir,
      emptyOutDir: true,
      minify: false,
      chunkSizeWarningLimit: 10_000,
      rolldownOptions: { input: pages.map((page) => join(HERE, page)) },
    },
  })
  return outDir
}

/** Serves the pages on an origin of their own. */
export async function servePages(t) {
  return serveSite(t, { root: await buildPages(t) })
}
